"""A run that is started again resumes from its newest sound checkpoint.

NeMo looks for `*last.ckpt` alone. A killed run can leave that file cut short, two of them (the new one was saved, the
old one not yet deleted), or none, although checkpoints of the best models are complete: NeMo then fails in loading,
refuses, or starts from scratch with a warning. Here every finished checkpoint of the experiment is considered.
Checkpoints on object stores and sharded ones (folders) are left to NeMo.
"""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from omegaconf import DictConfig

from nemo.utils import logging
from nemo.utils.callbacks import NeMoModelCheckpoint
from nemo.utils.checkpoint_files import check_checkpoint_file, fault_of_checkpoint
from nemo.utils.checkpoint_types import allow_checkpoint_types
from nemo.utils.exp_manager import check_resume as _nemo_check_resume
from nemo.utils.exp_manager import configure_checkpointing as _nemo_configure_checkpointing

_nemo_delete = NeMoModelCheckpoint._del_model_without_trainer
_nemo_setup = NeMoModelCheckpoint.setup


def check_resume(
    trainer: Trainer,
    log_dir: str,
    resume_if_exists: bool = False,
    resume_past_end: bool = False,
    resume_ignore_no_checkpoint: bool = False,
    dirpath: str | None = None,
    resume_from_checkpoint: str | None = None,
) -> None:
    """Makes the trainer resume from the newest sound checkpoint; all else, the arguments too, is NeMo's.

    Raises:
        ValueError: there are checkpoints, but none to resume from; the message says what is wrong with each.
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
        None where NeMo decides: there is no checkpoint, all are empty files (starting from scratch loses nothing
        then), the run has ended, or checkpoints are sharded.

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
            faults[file.name] = str(error).partition("\n")[0] or type(error).__name__
    listed = "".join(f"\n  {name}: {fault}" for name, fault in faults.items())
    if not sound:
        if all(file.stat().st_size == 0 for file in files):
            return None
        raise ValueError(
            f"exp_manager.resume_if_exists must find a checkpoint to resume from; got in {folder}:{listed}\n"
            "To start from scratch, move these files away or set another exp_manager.exp_dir."
        )
    if faults:
        logging.warning(f"Checkpoints that cannot be resumed from are skipped:{listed}")
    return max(sound, key=lambda file: sound[file])


def _steps_of(file: Path) -> int:
    """The optimizer steps in a checkpoint; tensors are not read.

    Raises:
        ValueError: training cannot resume from it. A damaged file can raise other exceptions too.
    """
    if NeMoModelCheckpoint.is_checkpoint_unfinished(file):
        raise ValueError("saving (or deleting) it was not finished")
    fault = fault_of_checkpoint(file)
    if fault is not None:
        raise ValueError(fault)
    # As Lightning reads it when it resumes.
    checkpoint = torch.load(file, map_location="cpu", mmap=True, weights_only=False)
    if "optimizer_states" not in checkpoint or "global_step" not in checkpoint:
        raise ValueError("it holds weights alone, not the state of the training")
    return checkpoint["global_step"]


def _is_left_to_nemo(dirpath: str | None) -> bool:
    return "://" in str(dirpath)


def _are_sharded(folder: Path, files: list[Path]) -> bool:
    shards = ("mp_rank", "tp_rank", "fsdp_shard")
    return any(child.is_dir() for child in folder.iterdir()) or any(
        shard in str(file) for file in files for shard in shards
    )


def configure_checkpointing(
    trainer: Trainer,
    log_dir: Path,
    name: str,
    resume: bool,
    params: DictConfig,
    create_preemption_callback: bool,
) -> None:
    """Adds NeMo's checkpoint callback. `trainer.check_val_every_n_epoch` may be null beside `trainer.max_epochs`.

    NeMo compares the two numbers in order to warn, and null is none.

    Raises:
        ValueError: `monitor` is null.
    """
    if params.monitor is None:
        raise ValueError(
            "exp_manager.checkpoint_callback_params.monitor must be the name of a metric; got null. A run without "
            "validation may leave it as it is: its checkpoints are those to resume from."
        )
    every_n_epochs = trainer.check_val_every_n_epoch
    trainer.check_val_every_n_epoch = every_n_epochs or 1
    try:
        _nemo_configure_checkpointing(trainer, log_dir, name, resume, params, create_preemption_callback)
    finally:
        trainer.check_val_every_n_epoch = every_n_epochs


def _del_model_without_trainer(self: NeMoModelCheckpoint, filepath: str) -> None:
    """Deletes a checkpoint beyond `save_top_k`, as NeMo does, unless training is about to resume from it."""
    if self.resumes_from is None or Path(filepath).resolve() != Path(self.resumes_from).resolve():
        _nemo_delete(self, filepath)


def _setup(self: NeMoModelCheckpoint, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
    """Refuses a broken file to resume from by its name, before Lightning reads it.

    Raises:
        ValueError: `trainer.ckpt_path` is empty, cut short, or no checkpoint.
    """
    if trainer.ckpt_path:
        check_checkpoint_file("The checkpoint to resume from", trainer.ckpt_path)
    _nemo_setup(self, trainer, pl_module, stage)


NeMoModelCheckpoint.resumes_from = None
NeMoModelCheckpoint._del_model_without_trainer = _del_model_without_trainer
NeMoModelCheckpoint.setup = _setup
allow_checkpoint_types()
