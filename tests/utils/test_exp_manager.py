"""A run that was broken off goes on with the contexts that an unbroken run draws, from the newest sound checkpoint."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from nemo.utils import exp_manager
from nemo.utils.callbacks import NeMoModelCheckpoint

STEPS = 8


@pytest.fixture(scope="module")
def killed(pretrain, tmp_path_factory):
    """The folder of a run that was killed before its sixth batch, in the first epoch; it saved after the third."""
    folder = tmp_path_factory.mktemp("killed")
    run = pretrain(folder, f"trainer.max_steps={STEPS}", "trainer.val_check_interval=3", kill_at=5)
    assert run.exit_code == -9 and [step["batch"] for step in run.steps[0]] == [0, 1, 2, 3, 4], run.printed[-3000:]
    return folder


@pytest.fixture(scope="module")
def unbroken(pretrain, tmp_path_factory):
    run = pretrain(tmp_path_factory.mktemp("unbroken"), f"trainer.max_steps={STEPS}", "trainer.val_check_interval=3")
    assert run.exit_code == 0, run.printed[-3000:]
    return run.steps[0]


def test_after_a_kill_the_script_goes_on_with_the_contexts_of_an_unbroken_run(pretrain, killed, unbroken, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "again")
    again = pretrain(folder, f"trainer.max_steps={STEPS}", "trainer.val_check_interval=3")
    assert again.exit_code == 0, again.printed[-3000:]
    assert [(step["batch"], step["context"]) for step in again.steps[0]] == [
        (step["batch"], step["context"]) for step in unbroken[3:]
    ]
    assert len({tuple(step["context"]) for step in unbroken}) == 3


def cut_short(file) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def checkpoints_of(folder) -> tuple:
    """The one `*last.ckpt` of an experiment and the one of its best models."""
    files = list(folder.rglob("*.ckpt"))
    last = [file for file in files if file.name.endswith("-last.ckpt")]
    best = [file for file in files if file not in last]
    assert len(last) == len(best) == 1
    return last[0], best[0]


def last_is_cut_short(folder):
    cut_short(checkpoints_of(folder)[0])


def last_is_gone(folder):
    checkpoints_of(folder)[0].unlink()


def last_is_unfinished(folder):
    last, _ = checkpoints_of(folder)
    cut_short(last)
    last.with_name(last.name.removesuffix(".ckpt") + "-unfinished").touch()


def there_are_two_last_ones(folder):
    last, _ = checkpoints_of(folder)
    older = torch.load(last, weights_only=False)
    older["global_step"] = 1
    torch.save(older, last.with_name("older-last.ckpt"))


@pytest.mark.parametrize("fault", [last_is_cut_short, last_is_gone, there_are_two_last_ones])
def test_the_script_resumes_from_the_newest_sound_file(pretrain, killed, unbroken, tmp_path, fault):
    """NeMo fails in loading, starts from scratch, and refuses, in this order."""
    folder = shutil.copytree(killed, tmp_path / "again")
    fault(folder)
    again = pretrain(folder, f"trainer.max_steps={STEPS}", "trainer.val_check_interval=3")
    assert again.exit_code == 0, again.printed[-3000:]
    assert [step["context"] for step in again.steps[0]] == [step["context"] for step in unbroken[3:]]
    assert [step["batch"] for step in again.steps[0]] == list(range(3, STEPS))


def test_the_script_refuses_to_start_from_scratch_beside_damaged_files(pretrain, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "again")
    for file in checkpoints_of(folder):
        cut_short(file)
    again = pretrain(folder, "trainer.max_steps=4", "trainer.val_check_interval=3")
    assert again.exit_code == 1 and again.steps == []
    assert "no checkpoint in" in again.printed and again.printed.count("PytorchStreamReader failed") >= 2


class TestSearch:
    """Which file is taken; the files hold as little as a checkpoint of Lightning's can."""

    @staticmethod
    def save(folder, name, step, **entries):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(
            {"global_step": step, "optimizer_states": [], "weights": torch.ones(1000), **entries}, folder / name
        )
        return folder / name

    @pytest.fixture
    def resume(self, tmp_path):
        def check(**options) -> str | None:
            trainer = SimpleNamespace(ckpt_path=None)
            options = {"resume_if_exists": True, "resume_ignore_no_checkpoint": True, **options}
            exp_manager.check_resume(trainer, str(tmp_path), **options)
            return trainer.ckpt_path and Path(trainer.ckpt_path).name

        yield check
        NeMoModelCheckpoint.resumes_from = None

    def test_steps_decide_and_the_last_one_among_equals(self, resume, tmp_path):
        folder = tmp_path / "checkpoints"
        assert resume() is None
        self.save(folder, "loss=1-step=10.ckpt", 10)
        assert resume() == "loss=1-step=10.ckpt"
        self.save(folder, "loss=1-step=10-last.ckpt", 10)
        self.save(folder, "loss=3-step=9.ckpt", 9)
        assert resume() == "loss=1-step=10-last.ckpt"
        newest = self.save(folder, "loss=2-step=20.ckpt", 20)
        assert resume() == newest.name
        self.save(folder, "loss=2-step=20-EMA.ckpt", 30)
        newest.with_name("loss=2-step=20-unfinished").touch()
        assert resume() == "loss=1-step=10-last.ckpt"
        assert resume(resume_if_exists=False) is None

    def test_a_file_without_the_state_of_training_is_passed_over_or_refused(self, resume, tmp_path):
        folder = tmp_path / "checkpoints"
        torch.save({"global_step": 7, "state_dict": {}}, self.save(folder, "weights-last.ckpt", 0))
        with pytest.raises(ValueError, match="weights-last.ckpt: ValueError: it holds weights alone.*\n.*exp_dir"):
            resume()
        self.save(folder, "step=3.ckpt", 3)
        assert resume() == "step=3.ckpt"

    def test_a_finished_run_is_still_refused_and_goes_on_when_told_to(self, resume, tmp_path):
        self.save(tmp_path / "checkpoints", "loss=1-step=10-end.ckpt", 10)
        with pytest.raises(ValueError, match="already completed"):
            resume()
        assert resume(resume_past_end=True) == "loss=1-step=10-end.ckpt"

    def test_tidying_up_beyond_top_k_spares_the_file_to_resume_from(self, resume, tmp_path):
        folder = tmp_path / "checkpoints"
        for loss, step in ((1.5, 10), (2.5, 20), (3.5, 5)):
            self.save(folder, f"run--val_loss={loss}-step={step}.ckpt", step)
        assert resume() == "run--val_loss=2.5-step=20.ckpt"
        NeMoModelCheckpoint(dirpath=str(folder), monitor="val_loss", save_top_k=1, n_resume=True)
        assert sorted(file.name for file in folder.iterdir()) == [
            "run--val_loss=1.5-step=10.ckpt",
            "run--val_loss=2.5-step=20.ckpt",
        ]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_checkpoint_saved_by_step_goes_on_at_the_next_micro_batch(
    tiny_model, training_data, fit, tmp_path, accumulated
):
    """There Lightning's own count of batches is one too low: it closes the first accumulation a batch early."""

    def model():
        return tiny_model(
            {
                "encoder.n_layers": 1,
                "encoder.d_model": 16,
                "encoder.subsampling_conv_channels": 4,
                "masking.mask_prob": 0.1,
                "train_ds": training_data("speech", shuffle=True, batch_size=1),
            }
        )

    options = {"accumulate_grad_batches": accumulated}
    every_third = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    broken = fit(model(), [every_third], max_steps=4, enable_checkpointing=True, **options)
    torch.manual_seed(17)
    resumed = fit(model(), max_steps=6, ckpt_path=next(tmp_path.glob("*.ckpt")), **options)
    sampler = model().context_sampler
    drawn = [sampler.at(count).as_list() for count in range(6 * accumulated)]
    assert broken.contexts == drawn[: 4 * accumulated]
    assert resumed.trainer.global_step == 6
    assert resumed.contexts == drawn[3 * accumulated :][: len(resumed.contexts)]


def test_runs_with_the_same_seed_are_alike_and_others_are_not(pretrain, tmp_path):
    options = ("trainer.max_steps=2", "+trainer.limit_val_batches=0")
    losses = {}
    for name, seed in {"one": 5, "again": 5, "other": 6, "none": "null"}.items():
        run = pretrain(tmp_path / name, *options, f"seed={seed}")
        assert run.exit_code == 0, run.printed[-3000:]
        losses[name] = [step["loss"] for step in run.steps[0]]
    assert losses["one"] == losses["again"]
    assert losses["one"] != losses["other"] and losses["none"] not in (losses["one"], losses["other"])
