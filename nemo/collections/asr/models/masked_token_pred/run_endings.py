"""How a training run ends: with figures of validation, and with a checkpoint to resume from if it is interrupted."""

import os
import signal
import threading
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from nemo.collections.common.callbacks import EMA
from nemo.utils import logging
from nemo.utils.batch_progress import batch_completed, is_between_batches

__all__ = ["InterruptedRun", "LastValidation"]


class LastValidation(pl.Callback):
    """Validates after the last training batch, whatever the interval of validation.

    So a run that is shorter than the interval has a `val_loss`, and a checkpoint of its best model.
    """

    def __init__(self) -> None:
        self._intervals: tuple[Any, Any] | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_last_batch(trainer, batch_idx):
            # Lightning reads these when all hooks of the batch have run.
            self._intervals = trainer.val_check_batch, trainer.check_val_every_n_epoch
            trainer.val_check_batch = 1
            trainer.check_val_every_n_epoch = None if trainer.check_val_every_n_epoch is None else 1
            # NeMo validates only from the second batch of a resumed run on.
            trainer.fit_loop.epoch_loop.restarting = False

    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if self._intervals is not None:
            trainer.val_check_batch, trainer.check_val_every_n_epoch = self._intervals
            self._intervals = None


def is_last_batch(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether training ends with the batch `batch_idx` of this epoch, whose hooks are running."""
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return True
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs
    return last_epoch and (trainer.is_last_batch or batch_idx + 1 == trainer.num_training_batches)


class InterruptedRun(pl.Callback):
    """Saves `*last.ckpt` when a run of one process is interrupted.

    - Ctrl-C: training ends after the current batch. A second Ctrl-C ends it at once, and nothing is saved.
    - SIGTERM (`kill`, the end of a Slurm job): Lightning ends training after the current batch.
    - An error between two training batches: a file that cannot be read, say, or one in validation.

    Several processes stop at different batches, so they resume from the last regular checkpoint. (On GPUs, NeMo's
    `PreemptionCallback` saves theirs on SIGTERM.)
    """

    def __init__(self) -> None:
        self._ctrl_c_handler: Any = None
        self._process: int | None = None
        self._ctrl_c = self._has_trained = False

    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._ctrl_c = self._has_trained = False
        handler = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if trainer.world_size == 1 and in_main_thread and handler is signal.default_int_handler:
            self._ctrl_c_handler, self._process = handler, os.getpid()
            signal.signal(signal.SIGINT, self._on_ctrl_c)

    def _on_ctrl_c(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:
            return  # a worker of a data loader: the run still needs its batches
        self._give_back_ctrl_c()
        self._ctrl_c = True
        logging.warning("Ctrl-C: training ends after this batch and saves a checkpoint. Ctrl-C again ends it at once.")

    def _give_back_ctrl_c(self) -> None:
        if self._ctrl_c_handler is not None:
            signal.signal(signal.SIGINT, self._ctrl_c_handler)
            self._ctrl_c_handler = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._has_trained = True
        if self._ctrl_c:
            with batch_completed(trainer):
                _save_last(trainer)
            raise KeyboardInterrupt

    def on_validation_batch_end(self, *_: Any) -> None:
        if self._ctrl_c:
            raise KeyboardInterrupt

    def on_exception(self, trainer: pl.Trainer, model: pl.LightningModule, exception: BaseException) -> None:
        self._give_back_ctrl_c()
        if trainer.world_size == 1 and self._has_trained and trainer.state.fn == "fit" and is_between_batches(trainer):
            try:
                _save_last(trainer)
            except Exception as error:  # the first error is the one to show
                logging.error(f"The interrupted run could not save a checkpoint: {error}")

    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._give_back_ctrl_c()

    def teardown(self, trainer: pl.Trainer, model: pl.LightningModule, stage: str) -> None:
        self._give_back_ctrl_c()  # NeMo's limit of time ends a run without `on_train_end`
        self._has_trained = False


def _save_last(trainer: Any) -> None:
    """Saves `*last.ckpt`, where a checkpoint callback keeps one, unless this step is saved already."""
    if trainer.validating and any(isinstance(callback, EMA) for callback in trainer.callbacks):
        return  # the model may have the averaged weights
    for checkpoint in trainer.checkpoint_callbacks:
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint._last_global_step_saved != trainer.global_step:
            checkpoint._save_last_checkpoint(trainer, checkpoint._monitor_candidates(trainer))
