"""Pretraining of one arm: it goes on where it was killed, and its objective is evaluated."""

import torch
from objective_parts.arms import SIZES, arm_named
from objective_parts.models import build_model
from objective_parts.pretraining import Pretraining, objective_figures, warm_up_of
from trainings.data import RandomCrops

TINY = SIZES["tiny"]
FEATURES = [torch.randn(80, 300, generator=torch.Generator().manual_seed(seed)) - 8 for seed in range(4)]


def pretraining(arm: str = "both, by batch") -> Pretraining:
    model = build_model(arm_named(arm), TINY, 0).train()
    torch.manual_seed(0)
    return Pretraining(model, RandomCrops(FEATURES, 2, 2.0, 0), 6, 1e-3)


def test_a_training_that_was_killed_goes_on_from_what_was_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("objective_parts.pretraining.SAVED_EVERY", 2)
    killed = pretraining()
    for _ in range(2):
        killed.train_step()
    killed.save(tmp_path / "checkpoint.pt")
    going_on = pretraining()
    going_on.run(tmp_path / "checkpoint.pt", "both")
    assert going_on.step == 6 and going_on.seconds > killed.seconds > 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "both: step 4 of 6",
        "both: step 6 of 6",
    ]


def test_the_learning_rate_rises_in_at_most_a_quarter_of_the_steps():
    assert [warm_up_of(steps) for steps in (1, 4, 200, 1200)] == [1, 1, 50, 100]


def test_each_term_is_evaluated_beside_what_needs_no_hearing():
    figures = objective_figures(build_model(arm_named("future"), TINY, 0), FEATURES)
    assert 0 < figures["val_token_entropy_given_1"] and 0 < figures["val_future_loss_80_0"]
    assert "val_acc_80_0" not in figures and 0 < figures["val_most_frequent"] < 1
    figures = objective_figures(build_model(arm_named("masked"), TINY, 0), FEATURES)
    assert 0 < figures["val_loss_80_0"] and 0 <= figures["val_acc_80_0"] <= 1
