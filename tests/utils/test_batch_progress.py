"""Lightning's counts of batches, seen from the hooks at the end of a batch."""

import lightning.pytorch as pl
import pytest
import torch

from nemo.utils.batch_progress import batch_completed, is_between_batches


class OneWeight(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch, batch_idx):
        return (self.weight * batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(6, 1))


def counts(trainer) -> tuple:
    loop = trainer.fit_loop.epoch_loop
    progress = loop.batch_progress
    return progress.total.completed, progress.current.completed, loop._batches_that_stepped


class AtEndOfBatches(pl.Callback):
    """What the counts are in the hooks of each batch: before, within and after `batch_completed`; and at the next."""

    def __init__(self, fails=False):
        self.fails, self.seen, self.at_next = fails, [], []

    def on_train_batch_start(self, trainer, *_):
        self.at_next.append(counts(trainer))
        assert not is_between_batches(trainer)

    def on_train_batch_end(self, trainer, *_):
        before = counts(trainer)
        assert not is_between_batches(trainer)
        try:
            with batch_completed(trainer):
                within = counts(trainer)
                assert is_between_batches(trainer)
                if self.fails:
                    raise OSError
        except OSError:
            pass
        self.seen.append((before, within, counts(trainer)))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_within_the_block_the_counts_are_those_that_the_next_batch_finds(accumulate, fails):
    callback = AtEndOfBatches(fails)
    trainer = pl.Trainer(
        max_epochs=2,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(OneWeight())
    assert len(callback.seen) == 12 and is_between_batches(trainer)
    for index, ((before, within, after), at_next) in enumerate(zip(callback.seen, callback.at_next[1:], strict=False)):
        assert before == after and before[0] == index
        if index != 5:  # there the next epoch starts to count again
            assert within == at_next
