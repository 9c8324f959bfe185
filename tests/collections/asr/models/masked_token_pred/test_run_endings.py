"""Whatever the size of the data and the intervals of the config: how a run ends, and what it leaves behind."""

import os
import signal

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

RECIPES = (
    "nest_fast-conformer_streaming_dynamic",
    "nest_fast-conformer_streaming_chunked",
    "nest_streaming_demo",
)


class AtBatch(pl.Callback):
    """Calls a function when a hook runs at the `number`-th training step (from 0) of the run."""

    def __init__(self, number, function, hook="on_train_batch_start"):
        self.number, self.function = number, function
        setattr(self, hook, self.at_hook)

    def at_hook(self, trainer, *_):
        if trainer.global_step == self.number:
            self.function()


def send(number):
    return lambda: os.kill(os.getpid(), number)


def fail():
    raise OSError("no such file")


def steps_in(file) -> int:
    return torch.load(file, weights_only=False)["global_step"]


def counts_in(file) -> tuple[dict, dict]:
    """Lightning's counts of batches, of the whole run and of the epoch."""
    progress = torch.load(file, weights_only=False)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return progress["total"], progress["current"]


@pytest.mark.slow
@pytest.mark.parametrize("config", RECIPES)
def test_a_run_shorter_than_the_interval_of_validation_has_figures_a_model_and_resumes(recipe, config):
    run = recipe("trainer.max_steps=3", config=config)
    assert run.validations == 1 and np.isfinite(float(run.trainer.callback_metrics["val_loss"]))
    assert [steps_in(file) for file in run.best + run.last] == [3, 3]
    assert f"val_loss_{run.trainer.callback_metrics['val_loss']:.3f}" in run.best[0].name
    EncDecDenoiseMaskedTokenPredModel.restore_from(str(run.nemo[0]))
    again = recipe("trainer.max_steps=4", config=config)
    assert again.steps == 1 and again.trainer.global_step == 4 and again.validations == 1
    assert [steps_in(file) for file in again.last] == [4]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, validations",
    [
        (("trainer.max_steps=4", "trainer.val_check_interval=2"), 2),  # the last one is due anyway
        (("trainer.max_steps=5", "trainer.val_check_interval=2"), 3),
        (("trainer.max_steps=2", "trainer.check_val_every_n_epoch=5", "trainer.val_check_interval=1"), 1),
        (("trainer.max_steps=4", "trainer.val_check_interval=0.5"), 4),  # a share of the epochs, of two batches each
        (("trainer.max_epochs=2",), 1),
        (("trainer.max_epochs=2", "trainer.max_steps=-1"), 1),
        (("trainer.max_epochs=3", "+trainer.min_epochs=3"), 1),
        (("trainer.max_epochs=2", "+trainer.limit_train_batches=1"), 1),
        (("trainer.max_steps=2", "trainer.accumulate_grad_batches=3"), 1),
        (("trainer.max_steps=2", "trainer.log_every_n_steps=0"), 1),
    ],
)
def test_training_always_ends_with_one_validation(recipe, options, validations):
    run = recipe("model.train_ds.batch_size=5", *options)
    assert run.validations == validations and len(run.best) == len(run.last) == 1
    assert steps_in(run.last[0]) == run.trainer.global_step


def test_the_last_validation_leaves_the_intervals_as_they_were(recipe):
    intervals = ("trainer.check_val_every_n_epoch=5", "trainer.val_check_interval=2")
    run = recipe("trainer.max_steps=3", "model.train_ds.batch_size=5", *intervals)
    assert run.validations == 1
    assert (run.trainer.check_val_every_n_epoch, run.trainer.val_check_batch) == (5, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "without",
    [
        "+trainer.limit_val_batches=0",
        "~model.validation_ds",
    ],
)
def test_a_run_without_validation_leaves_a_checkpoint_too(recipe, without):
    options = ("trainer.val_check_interval=2", "trainer.max_steps=4", without)
    run = recipe(*options)
    assert run.validations == 0 and run.best == [] and len(run.nemo) == 1
    assert [steps_in(file) for file in run.last] == [4] and "val_loss_nan" in run.last[0].name
    assert recipe(*options, "trainer.max_steps=6").steps == 2


@pytest.mark.slow
def test_an_epoch_without_targets_is_logged_as_nan_saved_and_resumed(recipe):
    run = recipe("model.masking.mask_prob=0", "trainer.val_check_interval=2", "trainer.max_steps=4")
    metrics = {name: float(value) for name, value in run.trainer.callback_metrics.items() if name.startswith("val_")}
    assert set(metrics) >= {"val_loss", "val_loss_80_0", "val_acc_-1_0"} and np.isnan(list(metrics.values())).all()
    assert run.validations == 2 and [steps_in(file) for file in run.last] == [4]
    again = recipe("trainer.val_check_interval=2", "trainer.max_steps=6")
    assert again.steps == 2 and np.isfinite(float(again.trainer.callback_metrics["val_loss"]))
    # A figure is better than none.
    assert [steps_in(file) for file in again.best] == [6] and [steps_in(file) for file in again.last] == [6]


@pytest.mark.slow
def test_one_utterance_trains(recipe):
    run = recipe("trainer.max_steps=2", "model.train_ds.batch_augmentor.prob=1.0", train=1, validation=1)
    assert run.steps == 2 and run.validations == 1 and len(run.nemo) == 1


@pytest.mark.slow
class TestAnInterruptedRun:
    OPTIONS = ("trainer.max_steps=6", "model.train_ds.batch_size=5", "trainer.val_check_interval=4")

    @pytest.fixture(autouse=True)
    def ctrl_c_as_in_a_terminal(self):
        """A process that was started in the background ignores Ctrl-C."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.parametrize(
        "interruption, ended, step",
        [
            (AtBatch(2, send(signal.SIGINT)), SystemExit, 3),
            (AtBatch(4, send(signal.SIGINT), "on_validation_batch_start"), SystemExit, 4),
            (AtBatch(2, send(signal.SIGTERM)), SystemExit, 3),
            (AtBatch(4, fail, "on_validation_epoch_start"), OSError, 4),
        ],
        ids=["Ctrl-C", "Ctrl-C in validation", "SIGTERM", "an error in validation"],
    )
    def test_leaves_a_checkpoint_from_which_it_goes_on(self, recipe, tmp_path, interruption, ended, step):
        with pytest.raises(ended):
            recipe(*self.OPTIONS, callbacks=[interruption])
        (last,) = tmp_path.rglob("*-last.ckpt")
        assert steps_in(last) == step and list(tmp_path.rglob("*.nemo"))
        unbroken = recipe(f"trainer.max_steps={step}", *self.OPTIONS[1:], folder=tmp_path / "unbroken")
        assert counts_in(last) == counts_in(unbroken.last[0])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for file in (tmp_path / "unbroken").rglob("*.ckpt"):
            file.unlink()
        run = recipe(*self.OPTIONS)
        assert run.trainer.global_step == 6 and run.steps == 6 - step
        assert run.model.context_sampler.count == 6

    def test_ctrl_c_ends_it_after_the_batch_and_a_second_one_at_once(self, recipe, tmp_path):
        seen = []
        twice = [AtBatch(2, send(signal.SIGINT)), AtBatch(2, lambda: seen.append("goes on")), AtBatch(2, send(2))]
        with pytest.raises(SystemExit):
            recipe(*self.OPTIONS, callbacks=twice)
        assert seen == ["goes on"] and not list(tmp_path.rglob("*.ckpt"))

    @pytest.mark.parametrize("step", [0, 2], ids=["workers of the first epoch", "workers of a later one"])
    def test_is_saved_though_the_terminal_sends_ctrl_c_to_workers_too(self, recipe, tmp_path, step):
        def send_to_all():
            workers = torch.multiprocessing.active_children()
            assert len(workers) == 2
            for process in (*workers, torch.multiprocessing.current_process()):
                os.kill(process.pid, signal.SIGINT)

        with pytest.raises(SystemExit):
            recipe(*self.OPTIONS, "model.train_ds.num_workers=2", callbacks=[AtBatch(step, send_to_all)])
        assert [steps_in(file) for file in tmp_path.rglob("*-last.ckpt")] == [step + 1]

    def test_gives_ctrl_c_back(self, recipe):
        handlers = []
        during = AtBatch(0, lambda: handlers.append(signal.getsignal(signal.SIGINT)))
        recipe("trainer.max_steps=1", callbacks=[during])
        assert handlers[0] is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(OSError, match="no such file"):
            recipe("trainer.max_steps=3", callbacks=[AtBatch(2, fail)])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_run_without_validation_goes_on_from_the_last_interval_of_steps(pretrain, tmp_path):
    options = (
        "trainer.max_steps=8",
        "+trainer.limit_val_batches=0",
        "exp_manager.checkpoint_callback_params.every_n_train_steps=2",
    )
    killed = pretrain(tmp_path, *options, kill_at=5)
    assert killed.exit_code == -9
    again = pretrain(tmp_path, *options)
    assert again.exit_code == 0, again.printed[-3000:]
    assert [step["batch"] for step in again.steps[0]] == [4, 5, 6, 7]
