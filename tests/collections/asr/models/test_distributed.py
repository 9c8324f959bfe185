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


BY_BATCH = ("+model.objective={masked: 1, future: 1, combination: by_batch}", "model.num_books=2")


def test_all_ranks_have_the_same_task_in_every_step_and_no_weight_is_missed(pretrain, tmp_path):
    """DDP raises in the step after one in which a weight got no gradient."""
    run = pretrain(tmp_path, *DDP, *BY_BATCH)
    assert run.exit_code == 0, run.printed[-5000:]
    first, second = run.steps
    tasks = [[step["task"] for step in rank] for rank in run.steps]
    assert tasks[0] == tasks[1] and set(tasks[0]) == {"masked", "future"}
    assert [a["weight"] for a in first] == [b["weight"] for b in second]
    validations = run.validations
    assert validations[0] == validations[1] and {"val_future_loss_8_0", "val_masked_loss_8_0"} <= set(
        validations[0][0]
    )
    assert "loss of future tokens" in run.printed


def test_heads_split_over_ranks_train_and_are_saved_whole(pretrain, tmp_path):
    run = pretrain(
        tmp_path,
        "trainer.devices=2",
        "trainer.strategy={_target_: lightning.pytorch.strategies.ModelParallelStrategy, data_parallel_size: 2}",
        "+trainer.strategy.tensor_parallel_size=1",
        "trainer.max_steps=3",
        "trainer.val_check_interval=3",
        "model.masking.freeze=false",
        *BY_BATCH,
    )
    assert run.exit_code == 0, run.printed[-5000:]
    first, second = run.steps
    assert [a["weight"] for a in first] == [b["weight"] for b in second]
    assert {step["task"] for step in first} == {"masked", "future"}
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(str(next(tmp_path.rglob("*.nemo"))))
    assert model.future_heads.weight.shape == (2, 2, 32, 16) and model.future_heads.weight.isfinite().all()
