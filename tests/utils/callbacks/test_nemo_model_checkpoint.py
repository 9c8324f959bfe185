"""`*last.ckpt` by steps and at the end, and figures that are no number in the names of checkpoints."""

import math
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from nemo.utils.callbacks import NeMoModelCheckpoint
from nemo.utils.exp_manager import exp_manager


class Curve(pl.LightningModule):
    """One weight; its validation gives the losses that it was told to give, one after another."""

    def __init__(self, *losses):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.losses = list(losses)

    def training_step(self, batch, batch_idx):
        return (self.weight * batch).sum()

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        self.log("val_loss", self.losses.pop(0))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(4, 1))

    val_dataloader = train_dataloader


class Saved(pl.Callback):
    """The names of all checkpoints of the run, in order."""

    def __init__(self):
        self.steps = []

    def on_save_checkpoint(self, trainer, model, checkpoint):
        self.steps.append(checkpoint["global_step"])


@pytest.fixture
def fit(tmp_path):
    def run(model, *, accumulate=1, save_last=True, options=None, callbacks=(), **trainer_options):
        saved = Saved()
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            accumulate_grad_batches=accumulate,
            callbacks=[saved, *callbacks],
            **{"check_val_every_n_epoch": None, **trainer_options},
        )
        params = {"save_nemo_on_train_end": False, "filename": "{val_loss:.2f}-{step}", "save_last": save_last}
        config = {"exp_dir": str(tmp_path), "name": "run", "create_tensorboard_logger": False}
        config |= {"resume_if_exists": True, "resume_ignore_no_checkpoint": True}
        exp_manager(trainer, {**config, "checkpoint_callback_params": {**params, **(options or {})}})
        trainer.fit(model)
        files = sorted(file.name.removesuffix(".ckpt") for file in tmp_path.rglob("*.ckpt"))
        return SimpleNamespace(trainer=trainer, steps=saved.steps, files=files)

    yield run
    NeMoModelCheckpoint.resumes_from = None


def test_steps_and_validation_save_side_by_side(fit):
    """Every third step `*last.ckpt`; at steps 4, 8, 12 validation saves its best and `*last.ckpt`, at 12 too."""
    run = fit(
        Curve(3.0, 2.0, 1.0),
        max_steps=12,
        val_check_interval=4,
        options={"every_n_train_steps": 3, "save_top_k": 1},
    )
    assert run.steps == [3, 4, 4, 6, 8, 8, 9, 12, 12, 12]
    assert run.files == ["val_loss=1.00-step=12", "val_loss=1.00-step=12-last"]


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_checkpoint_by_steps_resumes_at_the_next_batch(fit, tmp_path, accumulate):
    class KillAtStep4(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 4:
                raise KeyError("killed")

    options = {"val_check_interval": 100, "accumulate": accumulate, "options": {"every_n_train_steps": 3}}
    with pytest.raises(KeyError, match="killed"):
        fit(Curve(), max_steps=7, callbacks=[KillAtStep4()], **options)
    (last,) = tmp_path.rglob("*.ckpt")
    batches = 3 * accumulate
    assert counts_in(last) == {"step": 3, "ready": batches, "completed": batches, "logged": 3}
    resumed = fit(Curve(), max_steps=7, **options)
    assert resumed.steps == [6, 7]
    (last,) = tmp_path.rglob("*.ckpt")
    assert counts_in(last)["ready"] == 7 * accumulate


def counts_in(file):
    checkpoint = torch.load(file, weights_only=False)
    loop = checkpoint["loops"]["fit_loop"]
    return {
        "step": checkpoint["global_step"],
        "ready": loop["epoch_loop.batch_progress"]["total"]["ready"],
        "completed": loop["epoch_loop.batch_progress"]["total"]["completed"],
        "logged": loop["epoch_loop.state_dict"]["_batches_that_stepped"],
    }


@pytest.mark.parametrize("steps", [3, 4])
def test_training_ends_with_a_checkpoint_though_its_steps_are_a_multiple_of_the_interval(fit, steps):
    run = fit(Curve(), max_steps=steps, val_check_interval=2, limit_val_batches=0)
    assert run.steps == [steps] and run.files == [f"val_loss=nan-step={steps}-last"]


def test_nothing_is_saved_where_no_last_checkpoint_is_wanted(fit):
    run = fit(
        Curve(),
        max_steps=4,
        val_check_interval=2,
        limit_val_batches=0,
        save_last=False,
        options={"every_n_train_steps": 2},
    )
    assert run.steps == [] and run.files == []


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_run_whose_figure_is_no_number_can_be_resumed(fit, loss):
    """NeMo reads the figure from the file's name, and fails on one that is no number."""
    first = fit(Curve(loss, 2.0), max_steps=2, val_check_interval=1, options={"save_top_k": 2})
    assert len(first.files) == 3
    again = fit(Curve(1.0), max_steps=4, val_check_interval=1, options={"save_top_k": 2})
    assert again.trainer.global_step == 4 and "val_loss=1.00-step=4" in again.files


def test_a_resumed_run_may_give_up_its_best_models(fit):
    """NeMo then looks for the worst among none."""
    fit(Curve(3.0, 2.0), max_steps=2, val_check_interval=1, options={"save_top_k": 2})
    again = fit(Curve(1.0), max_steps=4, val_check_interval=1, options={"save_top_k": 0})
    assert again.steps == [4] and "val_loss=1.00-step=4-last" in again.files


def test_every_n_train_steps_alone_means_what_it_means_to_lightning(fit):
    run = fit(
        Curve(1.0),
        max_steps=4,
        val_check_interval=100,
        options={"every_n_train_steps": 2, "every_n_epochs": None, "monitor": "step", "mode": "max", "save_top_k": 2},
    )
    assert run.trainer.checkpoint_callback.last_every_n_steps == 0
    assert sorted(set(run.steps)) == [2, 4]
