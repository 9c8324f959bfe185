"""Lightning's count of training batches, for what is saved while a batch's last hooks are running."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer

__all__ = ["batch_completed", "is_between_batches"]


@contextmanager
def batch_completed(trainer: Trainer) -> Iterator[None]:
    """Within the block, a training batch whose `on_train_batch_end` hooks are running counts as completed.

    Lightning counts it after these hooks. A checkpoint that they save would repeat the batch on resuming, although the
    optimizer has made its step.
    """
    loop = trainer.fit_loop.epoch_loop
    progress = loop.batch_progress
    logged_steps = loop._batches_that_stepped
    progress.increment_completed()
    if not trainer.fit_loop._should_accumulate():
        loop._batches_that_stepped += 1
    try:
        yield
    finally:
        loop._batches_that_stepped = logged_steps
        progress.total.completed -= 1
        progress.current.completed -= 1


def is_between_batches(trainer: Trainer) -> bool:
    """Whether each training batch that was begun is completed, so that a checkpoint loses and repeats nothing."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return progress.current.ready == progress.current.completed
