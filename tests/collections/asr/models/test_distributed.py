"""Two processes, started by Lightning from the pretraining script, on CPUs (gloo)."""

import math

import pytest

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

DDP = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.max_steps=6", "trainer.val_check_interval=3")


@pytest.fixture(scope="module")
def run(pretrain, tmp_path_factory):
    """Six steps of two ranks; the third batch of rank 1 has no target."""
    folder = tmp_path_factory.mktemp("ddp")
    run = pretrain(folder, *DDP, without_targets=[1, 2])
    assert run.exit_code == 0, run.printed[-5000:]
    return run


def test_both_ranks_use_the_same_context_in_every_step(run):
    first, second = run.steps
    assert [step["context"] for step in first] == [step["context"] for step in second]
    assert [step["batch"] for step in first] == list(range(6))
    assert len({tuple(step["context"]) for step in first}) == 3


def test_a_rank_without_targets_has_loss_zero_and_the_weights_stay_alike(run):
    first, second = run.steps
    assert second[2]["loss"] == 0 < first[2]["loss"]
    losses = [step["loss"] for rank in run.steps for step in rank]
    assert all(math.isfinite(loss) for loss in losses)
    assert [a["loss"] for a in first] != [b["loss"] for b in second]
    assert [a["weight"] for a in first] == [b["weight"] for b in second]
    assert len({a["weight"] for a in first}) == 6


def test_validation_figures_are_those_of_all_ranks(run):
    first, second = run.validations
    assert first == second and len(first) == 2
    assert all(0 < metrics[f"val_loss_{left}_0"] < 10 for metrics in first for left in (8, 16, -1))


def test_weights_split_over_ranks_train_and_are_saved_whole(pretrain, tmp_path):
    """FSDP2, through Lightning's own strategy."""
    strategy = "{_target_: lightning.pytorch.strategies.ModelParallelStrategy, data_parallel_size: 2}"
    run = pretrain(
        tmp_path,
        "trainer.devices=2",
        f"trainer.strategy={strategy}",
        "+trainer.strategy.tensor_parallel_size=1",
        "trainer.max_steps=3",
        "trainer.val_check_interval=3",
    )
    assert run.exit_code == 0, run.printed[-5000:]
    first, second = run.steps
    assert [step["context"] for step in first] == [step["context"] for step in second]
    assert [a["weight"] for a in first] == [b["weight"] for b in second]
    assert len({a["weight"] for a in first}) == 3
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(str(next(tmp_path.rglob("*.nemo"))))
    weight = next(model.decoder.parameters()).detach().double().abs().sum()
    assert float(weight) == pytest.approx(first[-1]["weight"], rel=1e-6)
