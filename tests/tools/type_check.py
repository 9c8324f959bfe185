"""Checks the type hints of nemo/, nemo_overlay/ and examples/ with mypy.

    make lint
    python tests/tools/type_check.py [OPTIONS OF MYPY ...]

To mypy, a file of ours that extends a module of NeMo is the whole module: NeMo's names would be missing from it, and a
class that extends NeMo's class of the same name would extend itself. So mypy reads copies in `build/typed`, where

- what a file imports from its own module comes from `installed_nemo`, which mypy does not find and takes for `Any`;
- extended modules, and packages of NeMo that hold files of ours, have every other name too, of type `Any`.

The lines stay where they are. NeMo has no type information of its own: all that comes from it is `Any`.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COPY = REPOSITORY / "build" / "typed"
SCRIPTS = "examples/asr/speech_pretraining"
CHECKED = ("nemo", "nemo_overlay", SCRIPTS)
EVERY_OTHER_NAME = "\n\nfrom typing import Any as _Any  # noqa\n\n\ndef __getattr__(name: str) -> _Any: ...\n"


def installed_nemo() -> Path:
    """The folder `nemo` of the installed NeMo."""
    spec = importlib.util.find_spec("nemo")
    if spec is None or spec.origin is None:
        raise SystemExit("NeMo must be installed: its modules tell which files of ours extend one")
    return Path(spec.origin).parent


def copies() -> Iterator[tuple[Path, str]]:
    """Each file to check, by its path below the repository and below the copy, with the text that mypy reads."""
    theirs = installed_nemo()
    for folder in CHECKED:
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            path = file.relative_to(REPOSITORY)
            text = file.read_text(encoding="utf-8")
            if folder == "nemo" and (theirs.parent / path).is_file():
                module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
                text = text.replace(f"from {module} import", f"from installed_{module} import") + EVERY_OTHER_NAME
            yield path, text
    for folder in sorted({parent for file in (REPOSITORY / "nemo").rglob("*.py") for parent in file.parents}):
        path = folder.relative_to(REPOSITORY) if folder.is_relative_to(REPOSITORY / "nemo") else None
        if path is not None and not (folder / "__init__.py").exists():
            yield path / "__init__.py", EVERY_OTHER_NAME.lstrip()


def write_copies() -> None:
    """Brings the copy up to date; files that are equal keep their time, so that mypy does not check them again."""
    wanted = dict(copies())
    for path, text in wanted.items():
        file = COPY / path
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    for file in COPY.rglob("*.py"):
        if file.relative_to(COPY) not in wanted:
            file.unlink()


def main(options: list[str]) -> int:
    write_copies()
    command = [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml")]
    command += ["--cache-dir", str(COPY.parent / "mypy_cache"), "--num-workers", "2", *options, *CHECKED]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join([".", SCRIPTS])}
    return subprocess.run(command, cwd=COPY, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
