"""`*last.ckpt` is saved every so many steps and at the end of training, whatever validation does.

NeMo saves it after a validation. At the end of training it does so only where the number of steps is no multiple of
`val_check_interval`, also if there was no validation: a run without validation can end without a checkpoint, and a run
that is killed before its first validation leaves nothing.
"""

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from nemo.utils.batch_progress import batch_completed
from nemo.utils.callbacks.nemo_model_checkpoint import NeMoModelCheckpoint

_nemo_init = NeMoModelCheckpoint.__init__
_nemo_on_train_end = NeMoModelCheckpoint.on_train_end
_nemo_saved_checkpoint_paths = NeMoModelCheckpoint._saved_checkpoint_paths


@functools.wraps(_nemo_init)
def __init__(
    self: NeMoModelCheckpoint,
    *args: Any,
    every_n_train_steps: int | None = None,
    every_n_epochs: int | None = None,
    **kwargs: Any,
) -> None:
    """As NeMo's, and takes `every_n_train_steps` beside `every_n_epochs`, which is 1 unless the config says otherwise.

    With both, the best models are saved after validation, and `*last.ckpt` after validation and every
    `every_n_train_steps` optimizer steps. Lightning refuses the two together.
    """
    self.last_every_n_steps, self.step_of_last = 0, None
    if every_n_train_steps and every_n_epochs:
        self.last_every_n_steps, every_n_train_steps = every_n_train_steps, None
    _nemo_init(self, *args, every_n_train_steps=every_n_train_steps, every_n_epochs=every_n_epochs, **kwargs)


def on_train_batch_end(
    self: NeMoModelCheckpoint, trainer: Any, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
) -> None:
    """Saves `*last.ckpt` after each `last_every_n_steps`-th step of the optimizer."""
    super(NeMoModelCheckpoint, self).on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
    every, has_stepped = self.last_every_n_steps, not trainer.fit_loop._should_accumulate()
    if every and has_stepped and not _is_trial(trainer) and trainer.global_step % every == 0:
        step_of_best = self._last_global_step_saved
        with batch_completed(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        self._last_global_step_saved = step_of_best  # else a validation at this step would not save its model


def on_train_end(self: NeMoModelCheckpoint, trainer: Any, pl_module: LightningModule) -> None:
    """Saves `*last.ckpt` unless the one of this step is there, and then does what NeMo does."""
    if not _is_trial(trainer) and trainer.global_step not in (0, self.step_of_last):
        self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
    _nemo_on_train_end(self, trainer, pl_module)


def _save_last_checkpoint(
    self: NeMoModelCheckpoint, trainer: Trainer, monitor_candidates: dict[str, torch.Tensor]
) -> None:
    super(NeMoModelCheckpoint, self)._save_last_checkpoint(trainer, monitor_candidates)
    if self.save_last:
        self.step_of_last = trainer.global_step


def format_checkpoint_name(
    self: NeMoModelCheckpoint,
    metrics: Mapping[str, torch.Tensor],
    filename: str | None = None,
    ver: int | None = None,
) -> str:
    """As Lightning's, with `nan` for a monitored metric that nothing has measured; Lightning writes 0."""
    metrics = dict(metrics)
    if self.monitor is not None:
        metrics.setdefault(self.monitor, torch.tensor(math.nan))
    return super(NeMoModelCheckpoint, self).format_checkpoint_name(metrics, filename, ver)


def _saved_checkpoint_paths(self: NeMoModelCheckpoint) -> list[Path]:
    """The checkpoints that a resumed run ranks by the metric in their names: not those where it is no number."""
    if self.monitor is None or self.save_top_k == 0:
        return []  # there is nothing to rank
    no_number = re.compile(rf"{re.escape(self.monitor)}.-?(nan|inf)")
    paths = _nemo_saved_checkpoint_paths.fget(self)
    return [path for path in paths if not no_number.search(Path(path).name)]


def _is_trial(trainer: Any) -> bool:
    """Whether the trainer makes a `fast_dev_run`. Lightning sets that attribute without declaring it."""
    return bool(trainer.fast_dev_run)


NeMoModelCheckpoint.__init__ = __init__
NeMoModelCheckpoint.on_train_batch_end = on_train_batch_end
NeMoModelCheckpoint.on_train_end = on_train_end
NeMoModelCheckpoint._save_last_checkpoint = _save_last_checkpoint
NeMoModelCheckpoint.format_checkpoint_name = format_checkpoint_name
NeMoModelCheckpoint._saved_checkpoint_paths = property(_saved_checkpoint_paths)
