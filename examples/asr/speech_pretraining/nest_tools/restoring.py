"""Models from `.nemo` files."""

import tarfile
from pathlib import Path

from nemo.core import ModelPT

CONFIG = "model_config.yaml"


def restore(file: str | Path, device: str = "cpu") -> ModelPT:
    """The model of a `.nemo` file, in the mode in which NeMo restores it.

    Args:
        device: where its weights are put.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a Lightning checkpoint, no archive, a truncated one, or an archive of something else.
    """
    file = Path(file)
    if file.is_dir():
        raise ValueError(f"--model must be a .nemo file; got {file}, which is a folder")
    if not file.is_file():
        raise FileNotFoundError(f"--model must be a .nemo file; got {file}, which does not exist")
    try:
        with tarfile.open(file) as archive:
            is_model = any(Path(member.name).name == CONFIG for member in archive)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"--model must be a .nemo file; got {file}, which is {_kind(file)} ({error})") from error
    if not is_model:
        raise ValueError(f"--model must be a .nemo file; got {file}, an archive without {CONFIG}")
    try:
        return ModelPT.restore_from(str(file), map_location=device)
    except (tarfile.ReadError, EOFError) as error:
        raise ValueError(f"--model must be a .nemo file; got {file}, which is truncated ({error})") from error


def _kind(file: Path) -> str:
    """What a file that is no whole tar archive is, as far as its first bytes tell."""
    with open(file, "rb") as opened:
        beginning = opened.read(4)
    if beginning == b"PK\x03\x04":
        return "a checkpoint of Lightning or torch; training writes a .nemo file beside its checkpoints"
    if beginning[:2] == b"\x1f\x8b":
        return "a truncated archive"
    return "empty" if not beginning else "no archive"
