"""What all commands share: names of contexts, how errors are shown, exit codes, and files that are written whole."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nest_tools.utterances import Skipped


def parse_context(text: str) -> str | list[int]:
    """A preset's name, or `left,right` as a list of whole numbers."""
    if not any(character.isdigit() for character in text):
        return text
    try:
        return [int(size) for size in text.strip("[]").split(",")]
    except ValueError:
        return text


def context_help(default: str) -> str:
    """The help of an option `--context`."""
    return (
        "a preset's name (very_low, low, medium, high, unlimited, or one of the model's own) or LEFT,RIGHT in encoder "
        f"frames, as in --context=-1,0 for no limit (default: {default})"
    )


def report_skipped(skipped: Sequence[Skipped]) -> int:
    """Names on standard error what was left out, and returns the exit code: 1 if there is anything, 0 otherwise."""
    for skip in skipped:
        print(f"left out: {skip}", file=sys.stderr)
    return 1 if skipped else 0


def run(main: Callable[[], int]) -> None:
    """Ends the process with the exit code of `main`; errors that the user can mend are one line, and exit code 1."""
    try:
        sys.exit(main())
    except (ImportError, OSError, TypeError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Gives a temporary name, with the same ending, for what is to become `file` when the block ends.

    If it ends by an error, the temporary file is removed and `file` is as it was.
    """
    temporary = file.with_name(f".{os.getpid()}-partial-{file.name}")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with written_whole(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
