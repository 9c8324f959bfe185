"""What is wrong with a checkpoint file, in words; torch's own errors say which of its readers failed."""

import tarfile
import zipfile
from pathlib import Path

__all__ = ["check_checkpoint_file", "fault_of_checkpoint"]

_ZIP_START = b"PK\x03\x04"
_PICKLE_START = b"\x80"  # of the files that torch wrote before version 1.6


def fault_of_checkpoint(file: Path) -> str | None:
    """Why `file` cannot be a checkpoint that `torch.save` has finished writing; None if it can.

    Only the ends of the file are read. Missing files and folders have no fault: sharded checkpoints are folders.
    """
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        start = stream.read(len(_ZIP_START))
    if not start:
        return "the file is empty"
    if start == _ZIP_START and not zipfile.is_zipfile(file):
        return "the file is cut short (its end is missing)"
    if start == _ZIP_START or start.startswith(_PICKLE_START):
        return None
    if tarfile.is_tarfile(file):
        return "the file is a .nemo archive"
    return "the file was not written by torch.save"


def check_checkpoint_file(name: str, file: str | Path, hint: str = "") -> None:
    """Raises ValueError, with the argument's name and a hint what to do, if `file` is not a complete checkpoint."""
    fault = fault_of_checkpoint(Path(file))
    if fault is not None:
        raise ValueError(f"{name} must be a complete checkpoint; got {file}, but {fault}" + (hint and f"; {hint}"))
