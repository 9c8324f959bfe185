"""A training that goes on where it was killed."""

import pytest
import torch
from trainings.data import RandomCrops
from trainings.models import demo_model
from trainings.training import ResumableTraining, cosine

from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures

FEATURES = [torch.randn(80, 300, generator=torch.Generator().manual_seed(seed)) - 8 for seed in range(4)]
BY_BATCH = {"masked": 1.0, "future": 1.0, "steps": 1, "combination": "by_batch"}


class Counting(ResumableTraining):
    """Counts what it has seen."""

    kept = ("step", "seen")

    def __init__(self):
        torch.manual_seed(0)
        small = {"encoder.n_layers": 1, "encoder.d_model": 32, "num_classes": 8}
        model = demo_model({**small, "objective": BY_BATCH}).train()
        super().__init__(model, RandomCrops(FEATURES, 2, 2.0, 0), steps=6, peak=1e-3, warm_up=2)
        self.seen = 0

    def run(self, steps: int) -> "Counting":
        for _ in range(steps):
            features, lengths = self.crops.next()
            self.learn(self.model.training_loss(SpeechFeatures.without_noise(features, lengths))[0])
            self.seen += len(lengths)
        return self


def test_a_training_that_was_killed_gives_the_same_weights(tmp_path):
    unbroken = Counting().run(6)
    Counting().run(2).save(tmp_path / "folder/checkpoint.pt")
    going_on = Counting()
    torch.randn(3)
    going_on.restore(tmp_path / "folder/checkpoint.pt")
    assert (going_on.step, going_on.seen) == (2, 4)
    going_on.run(4)
    assert (going_on.step, going_on.seen) == (6, 12)
    for ours, theirs in zip(unbroken.model.parameters(), going_on.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_learning_rate_rises_and_falls():
    rates = [cosine(step, 1200) for step in range(1201)]
    assert rates[0] == pytest.approx(0.01, rel=1e-2) and max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates.index(max(rates)) == 99 and rates[-1] == pytest.approx(0.01)
