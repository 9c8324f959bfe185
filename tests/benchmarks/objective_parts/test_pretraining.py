"""Pretraining of one arm: it goes on where it was killed, and its objective is evaluated."""

import pytest
import torch
from objective_parts.arms import SIZES, arm_named
from objective_parts.models import build_model
from objective_parts.pretraining import Pretraining, cosine, objective_figures
from trainings.data import RandomCrops

TINY = SIZES["tiny"]
FEATURES = [torch.randn(80, 300, generator=torch.Generator().manual_seed(seed)) - 8 for seed in range(4)]


def pretraining(arm: str = "both, by batch") -> Pretraining:
    model = build_model(arm_named(arm), TINY, 0).train()
    torch.manual_seed(0)
    return Pretraining(model, RandomCrops(FEATURES, 2, 2.0, 0), 6, 1e-3)


def test_a_training_that_was_killed_gives_the_same_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("objective_parts.pretraining.SAVED_EVERY", 2)
    unbroken = pretraining()
    unbroken.run(tmp_path / "unbroken.pt", "both")
    killed = pretraining()
    for _ in range(2):
        killed.train_step()
    killed.save(tmp_path / "killed.pt")
    going_on = pretraining()
    going_on.run(tmp_path / "killed.pt", "both")
    assert going_on.step == 6 and "both: step 6 of 6, loss" in capsys.readouterr().out
    for ours, theirs in zip(unbroken.model.parameters(), going_on.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_learning_rate_rises_and_falls():
    rates = [cosine(step, 1200) for step in range(1201)]
    assert rates[0] == pytest.approx(0.01, rel=1e-2) and max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates.index(max(rates)) == 99 and rates[-1] == pytest.approx(0.01)


def test_each_term_is_evaluated_beside_what_needs_no_hearing():
    figures = objective_figures(build_model(arm_named("future"), TINY, 0), FEATURES)
    assert 0 < figures["val_token_entropy_given_1"] and 0 < figures["val_future_loss_80_0"]
    assert "val_acc_80_0" not in figures and 0 < figures["val_most_frequent"] < 1
    figures = objective_figures(build_model(arm_named("masked"), TINY, 0), FEATURES)
    assert 0 < figures["val_loss_80_0"] and 0 <= figures["val_acc_80_0"] <= 1
