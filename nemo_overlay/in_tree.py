"""Writes our half into a NeMo source tree, for those who maintain a fork: the same code, without the overlay.

Our text is appended to each file that NeMo has, under a line that marks it; other files are added. Either the whole
tree is changed or nothing is: all new texts and NeMo's own are staged beside it before the first file is replaced.
After an interruption NeMo's files are put back, at the latest when `apply` is next called.
"""

import difflib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_overlay import IN_TREE_MARK, __version__, find_tree
from nemo_overlay.checks import SUPPORTED_RANGE, is_supported, stated_version


class NotApplicable(ValueError):
    """The folder cannot take our half. The message says why; nothing in it was touched."""


@dataclass(frozen=True)
class Change:
    """One file of a NeMo tree before and after our half is written into it."""

    file: str
    """Path from the tree's root, with forward slashes: ``nemo/collections/asr/...``."""

    before: str | None
    """NeMo's text; None for a file that NeMo does not have."""

    after: str
    """NeMo's text followed by ours, or ours alone. Line ends are those of NeMo's file."""

    @property
    def kind(self) -> str:
        """``extends`` or ``new``."""
        return "new" if self.before is None else "extends"


def our_files() -> Iterator[tuple[str, Path]]:
    """Each file of our half: its path in a NeMo tree (``nemo/collections/asr/...``) and where it lies here."""
    tree = Path(find_tree())
    if not tree.is_dir():
        raise FileNotFoundError(f"our half of NeMo must be in a folder to be listed; got {tree}; unpack the zip file")
    for file in sorted(tree.rglob("*.py")):
        yield f"nemo/{file.relative_to(tree).as_posix()}", file


def plan(root: Path) -> list[Change]:
    """What `apply` would change in the NeMo tree `root`, which holds the folder ``nemo``.

    Raises:
        NotApplicable: `root` holds no NeMo, one outside the supported range, or one that has our half already.
    """
    if (root / _STAGE).exists():
        raise NotApplicable(
            f"an earlier apply to {root} was interrupted; run apply, which first puts NeMo's files back"
        )
    _check_is_nemo(root)
    changes = [_merge(name, _read(root / name), ours.read_text(encoding="utf-8")) for name, ours in our_files()]
    patched = [change.file for change in changes if change.before and IN_TREE_MARK in change.before]
    if patched:
        raise NotApplicable(f"DIR must be a NeMo without our half; got {root}, which has it in {patched[0]}")
    return changes


def apply(root: Path) -> list[Change]:
    """Write our half into the NeMo tree `root`, and return what was changed: all files of `plan`, or none.

    Raises:
        NotApplicable: as `plan` says.
        OSError: the tree cannot be written. NeMo's files are back in place, as after any other exception.
    """
    if (root / _STAGE).exists():
        _put_back(root)
    changes = plan(root)
    _stage(root, changes)
    try:
        for change in changes:
            (root / change.file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(root / _STAGE / "after" / change.file, root / change.file)
    except BaseException:
        _put_back(root)
        raise
    _discard(root, _STAGE)
    return changes


def unified_diff(changes: list[Change]) -> str:
    """The changes as one patch, which ``git apply`` and ``patch -p1`` take."""
    return "".join(line for change in changes for line in _diff_lines(change))


_STAGE = ".nemo_overlay_apply"
_UNFINISHED_STAGE = ".nemo_overlay_apply.unfinished"


def _check_is_nemo(root: Path) -> None:
    package_info = _read(root / "nemo" / "package_info.py")
    version = package_info and stated_version(package_info)
    if not version or not (root / "nemo" / "collections" / "asr" / "__init__.py").is_file():
        inside = "; give the folder that holds the folder nemo" if (root / "package_info.py").exists() else ""
        raise NotApplicable(
            f"DIR must be a NeMo source tree; got {root}, which has no nemo/ with NVIDIA's package_info.py{inside}"
        )
    if not is_supported(version):
        raise NotApplicable(f"DIR must be a NeMo {SUPPORTED_RANGE}; got {root}, which is NeMo {version}")


def _merge(name: str, before: str | None, ours: str) -> Change:
    if before is None:
        return Change(name, None, f"{IN_TREE_MARK} {__version__} adds this file.\n{ours}")
    last_line_end = "" if before.endswith("\n") else "\n"
    section = f"{last_line_end}\n\n{IN_TREE_MARK} {__version__} adds all that follows.\n{ours}"
    after = before + (section.replace("\n", "\r\n") if "\r\n" in before else section)
    try:
        compile(after, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise NotApplicable(f"{name} must be NeMo's own file; got one that ours cannot follow: {error}") from error
    return Change(name, before, after)


def _read(file: Path) -> str | None:
    # Path.read_text would turn CRLF into LF, and the diff would then show every line.
    return file.read_bytes().decode("utf-8") if file.is_file() else None


def _stage(root: Path, changes: list[Change]) -> None:
    """Write all old and new texts beside the tree; only a complete stage gets the name that `_put_back` trusts."""
    _discard(root, _UNFINISHED_STAGE)
    stage = root / _UNFINISHED_STAGE
    try:
        for change in changes:
            after = stage / "after" / change.file
            after.parent.mkdir(parents=True, exist_ok=True)
            after.write_bytes(change.after.encode("utf-8"))
            if change.before is not None:
                before = stage / "before" / change.file
                before.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / change.file, before)
                shutil.copymode(before, after)
        added = [change.file for change in changes if change.before is None]
        (stage / "added.json").write_text(json.dumps(added), encoding="utf-8")
        stage.rename(root / _STAGE)
    except BaseException:
        _discard(root, _UNFINISHED_STAGE)
        raise


def _put_back(root: Path) -> None:
    """Undo a partly done `apply` from its stage. May itself be cut off and called again."""
    stage = root / _STAGE
    for before in sorted((stage / "before").rglob("*.py")):
        # A copy and a rename: the stage stays complete until all is back.
        copy = stage / "copy"
        shutil.copy2(before, copy)
        os.replace(copy, root / before.relative_to(stage / "before"))
    for name in json.loads((stage / "added.json").read_text(encoding="utf-8")):
        file = root / name
        file.unlink(missing_ok=True)
        _remove_empty_folders(file.parent, root)
    _discard(root, _STAGE)


def _remove_empty_folders(folder: Path, root: Path) -> None:
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _discard(root: Path, name: str) -> None:
    stage = root / name
    if name == _STAGE:
        # Taken out of the trusted name in one step: half a stage must never be put back.
        stage = stage.rename(root / _UNFINISHED_STAGE)
    if stage.exists():
        shutil.rmtree(stage)


def _diff_lines(change: Change) -> Iterator[str]:
    before, after = _lines(change.before or ""), _lines(change.after)
    old_name = "/dev/null" if change.before is None else f"a/{change.file}"
    for line in difflib.unified_diff(before, after, old_name, f"b/{change.file}"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(text: str) -> list[str]:
    # str.splitlines would also split at form feeds, which are no line ends to `patch`.
    return io.StringIO(text, newline="\n").readlines()
