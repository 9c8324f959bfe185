"""A run that was killed resumes from its newest sound checkpoint, and trains as an unbroken run does."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.demos.boring_classes import BoringModel

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
    assert again.printed.count("the file is cut short (its end is missing)") == 2
    assert "exp_manager.resume_if_exists must find a checkpoint to resume from; got in" in again.printed


def test_the_names_of_checkpoints_can_be_typed_on_the_command_line_as_they_are(killed):
    parser = OverridesParser.create()
    for file in killed.rglob("*.ckpt"):
        assert re.fullmatch(r"SSL-NEST-FastConformer-Streaming--val_loss_\d\.\d{3}-step_3(-last)?\.ckpt", file.name)
        assert parser.parse_override(f"+init_from_ptl_ckpt={file}").value() == str(file)


def test_a_run_goes_on_from_files_with_names_of_0_1_0(pretrain, killed, unbroken, tmp_path):
    """`val_loss=3.6-step=3.ckpt`: the metric in such a name still counts among the best."""
    folder = shutil.copytree(killed, tmp_path / "again")
    for file in list(folder.rglob("*.ckpt")):
        file.rename(file.with_name(file.name.replace("val_loss_", "val_loss=").replace("step_", "step=")))
    again = pretrain(folder, f"trainer.max_steps={STEPS}", "trainer.val_check_interval=3")
    assert again.exit_code == 0, again.printed[-3000:]
    assert [step["batch"] for step in again.steps[0]] == [step["batch"] for step in unbroken[3:]]
    last, best = checkpoints_of(folder)
    assert "=" not in last.name  # of the two best one is kept, and the last one is replaced
    losses = [float(loss) for loss in re.findall(r"\| \[\d+, 0\] \| (\d\.\d+) \|", again.printed)]
    assert len(losses) >= 2 and best.is_file()


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
        with pytest.raises(ValueError, match="weights-last.ckpt: it holds weights alone.*\n.*exp_dir"):
            resume()
        self.save(folder, "step=3.ckpt", 3)
        assert resume() == "step=3.ckpt"

    @pytest.mark.parametrize("cut_to", [0, 100])
    def test_a_broken_file_beside_a_sound_one_is_named_and_skipped(self, resume, tmp_path, cut_to, monkeypatch):
        shown = []
        monkeypatch.setattr(exp_manager.logging, "warning", shown.append)
        folder = tmp_path / "checkpoints"
        self.save(folder, "step_3.ckpt", 3)
        broken = self.save(folder, "step_4-last.ckpt", 4)
        broken.write_bytes(broken.read_bytes()[:cut_to])
        assert resume() == "step_3.ckpt"
        fault = "the file is cut short (its end is missing)" if cut_to else "the file is empty"
        assert shown[0].splitlines()[1:] == [f"  step_4-last.ckpt: {fault}"]

    def test_empty_files_alone_are_left_to_nemo_and_refused_by_name_when_training_begins(self, resume, tmp_path):
        """NVIDIA's own tests rest on the first half."""
        folder = tmp_path / "checkpoints"
        folder.mkdir()
        (folder / "run--last.ckpt").touch()
        assert resume() == "run--last.ckpt"
        callback = NeMoModelCheckpoint(dirpath=str(folder))
        trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[callback], max_steps=1)
        trainer.ckpt_path = str(folder / "run--last.ckpt")
        with pytest.raises(ValueError, match="complete checkpoint; got .*run--last.ckpt, but the file is empty"):
            trainer.fit(BoringModel())

    def test_a_finished_run_is_still_refused_and_goes_on_when_told_to(self, resume, tmp_path):
        self.save(tmp_path / "checkpoints", "loss=1-step=10-end.ckpt", 10)
        with pytest.raises(ValueError, match="already completed"):
            resume()
        assert resume(resume_past_end=True) == "loss=1-step=10-end.ckpt"

    @pytest.mark.parametrize("marks", ["===", "___", "=_="], ids=["names of 0.1.0", "names of now", "both"])
    def test_deleting_beyond_top_k_spares_the_file_to_resume_from(self, resume, tmp_path, marks):
        folder = tmp_path / "checkpoints"
        for loss, step, mark in zip((1.5, 2.5, 3.5), (10, 20, 5), marks, strict=True):
            self.save(folder, f"run--val_loss{mark}{loss}-step{mark}{step}.ckpt", step)
        assert resume() == f"run--val_loss{marks[1]}2.5-step{marks[1]}20.ckpt"
        callback = NeMoModelCheckpoint(dirpath=str(folder), monitor="val_loss", save_top_k=1, n_resume=True)
        assert {file.name for file in folder.iterdir()} == {
            f"run--val_loss{marks[0]}1.5-step{marks[0]}10.ckpt",
            f"run--val_loss{marks[1]}2.5-step{marks[1]}20.ckpt",
        }
        assert callback.best_model_score == 1.5


def test_epochs_may_be_limited_where_validation_counts_batches_across_them(recipe):
    """NeMo compares `max_epochs` with `check_val_every_n_epoch`, which is null then."""
    run = recipe("trainer.max_epochs=2", "trainer.val_check_interval=3", "model.train_ds.batch_size=5")
    assert run.steps == 4 and run.validations == 2 and run.trainer.check_val_every_n_epoch is None


def test_checkpoints_are_ranked_by_some_metric(recipe):
    with pytest.raises(ValueError, match="checkpoint_callback_params.monitor must be the name of a metric; got null"):
        recipe("exp_manager.checkpoint_callback_params.monitor=null", fit=False)
