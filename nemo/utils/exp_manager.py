"""A run that is started again goes on from its newest sound checkpoint, whatever the last one was killed at.

NeMo looks for `*last.ckpt` alone. A kill can leave that file cut short, leave two of them (saved, but the old one not
yet deleted), or none, beside files of the best models that are perfectly good: NeMo then fails in loading, refuses, or
starts from scratch with a warning. Here every finished checkpoint of the experiment is looked at. Checkpoints on
object stores and sharded ones (folders) are left to NeMo.
"""

from pathlib import Path

import torch
from lightning.pytorch import Trainer

from nemo.utils import logging
from nemo.utils.callbacks import NeMoModelCheckpoint
from nemo.utils.exp_manager import check_resume as _nemo_check_resume

_nemo_delete = NeMoModelCheckpoint._del_model_without_trainer


def check_resume(
    trainer: Trainer,
    log_dir: str,
    resume_if_exists: bool = False,
    resume_past_end: bool = False,
    resume_ignore_no_checkpoint: bool = False,
    dirpath: str | None = None,
    resume_from_checkpoint: str | None = None,
) -> None:
    """Lets the trainer resume from the newest sound checkpoint; arguments and the rest are NeMo's.

    Raises:
        ValueError: there are checkpoints, but none to resume from; the message says of each what is wrong with it.
    """
    newest = None
    if resume_if_exists and not _is_left_to_nemo(dirpath):
        newest = newest_sound_checkpoint(Path(dirpath or Path(log_dir) / "checkpoints"), resume_past_end)
    NeMoModelCheckpoint.resumes_from = newest
    if newest is not None:
        resume_if_exists, resume_from_checkpoint = False, str(newest)
    return _nemo_check_resume(
        trainer,
        log_dir,
        resume_if_exists,
        resume_past_end,
        resume_ignore_no_checkpoint,
        dirpath,
        resume_from_checkpoint,
    )


def newest_sound_checkpoint(folder: Path, resume_past_end: bool = False) -> Path | None:
    """The checkpoint with the most training steps in it, of those that are finished and can be read.

    Args:
        folder: where to look, and below it.
        resume_past_end: whether a run that has come to its end (`*end.ckpt`) may go on.

    Returns:
        None where NeMo is to decide: there is no checkpoint, or the run has ended, or checkpoints are sharded.

    Raises:
        ValueError: none of the checkpoints is sound.
    """
    files = [file for file in sorted(folder.rglob("*.ckpt")) if not file.name.endswith("-EMA.ckpt")]
    ended = any(file.name.endswith("end.ckpt") for file in files)
    if not files or _are_sharded(folder, files) or (ended and not resume_past_end):
        return None
    faults, sound = {}, {}
    for file in files:
        try:
            # Of two with equal steps NeMo replaces the last one, and keeps the other among the best.
            sound[file] = (_steps_of(file), file.name.endswith("last.ckpt"), file.stat().st_mtime)
        except Exception as error:  # a damaged pickle can raise anything
            faults[file.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    listed = "".join(f"\n  {name}: {fault}" for name, fault in faults.items())
    if not sound:
        raise ValueError(
            f"exp_manager.resume_if_exists is set, but no checkpoint in {folder} can be resumed from:{listed}\n"
            "Move these files away, or set another exp_manager.exp_dir, to start from scratch."
        )
    if faults:
        logging.warning(f"Checkpoints that cannot be resumed from are passed over:{listed}")
    return max(sound, key=sound.get)


def _steps_of(file: Path) -> int:
    """The optimizer steps in a checkpoint; tensors are not read.

    Raises:
        ValueError: training cannot go on from it. Besides, whatever reading a damaged file raises.
    """
    if NeMoModelCheckpoint.is_checkpoint_unfinished(file):
        raise ValueError("its saving (or deleting) was not finished")
    checkpoint = torch.load(file, map_location="cpu", mmap=True, weights_only=False)
    if "optimizer_states" not in checkpoint or "global_step" not in checkpoint:
        raise ValueError("it holds weights alone, no state of the training")
    return checkpoint["global_step"]


def _is_left_to_nemo(dirpath: str | None) -> bool:
    return "://" in str(dirpath)


def _are_sharded(folder: Path, files: list[Path]) -> bool:
    shards = ("mp_rank", "tp_rank", "fsdp_shard")
    return any(child.is_dir() for child in folder.iterdir()) or any(
        shard in str(file) for file in files for shard in shards
    )


def _del_model_without_trainer(self: NeMoModelCheckpoint, filepath: str) -> None:
    """Tidies up beyond `save_top_k`, as NeMo does, but not the file that training is about to resume from."""
    if self.resumes_from is None or Path(filepath).resolve() != Path(self.resumes_from).resolve():
        _nemo_delete(self, filepath)


NeMoModelCheckpoint.resumes_from = None
NeMoModelCheckpoint._del_model_without_trainer = _del_model_without_trainer
