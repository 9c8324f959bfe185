"""Pretraining of one arm, which goes on where it was ended."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trainings.data import RandomCrops, padded
from trainings.training import WARM_UP, ResumableTraining

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.models.masked_token_pred.objective_totals import ObjectiveTotals
from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures
from nemo.collections.asr.models.masked_token_pred.token_baselines import TokenCounts

SAVED_EVERY = 100
EVALUATED_AT_ONCE = 16


def warm_up_of(steps: int) -> int:
    """The steps in which the learning rate rises: at most a quarter of them."""
    return min(WARM_UP, max(1, steps // 4))


class Pretraining(ResumableTraining):
    """Pretraining by whatever objective the model has.

    Args:
        model, crops, steps, peak: as for `ResumableTraining`.
    """

    kept = ("step", "seconds")

    def __init__(self, model: EncDecDenoiseMaskedTokenPredModel, crops: RandomCrops, steps: int, peak: float):
        super().__init__(model, crops, steps, peak, warm_up_of(steps))
        self.seconds = 0.0
        """CPU time of all steps."""

    def train_step(self) -> float:
        """Trains on one batch, and returns its loss."""
        features, lengths = (tensor.to(self.model.device) for tensor in self.crops.next())
        started = time.process_time()
        loss, _ = self.model.training_loss(SpeechFeatures.without_noise(features, lengths))
        self.learn(loss)
        self.seconds += time.process_time() - started
        return float(loss.detach())

    def run(self, checkpoint: Path, name: str) -> None:
        """Trains to the end, from the checkpoint where there is one; prints a line at each save."""
        if checkpoint.is_file():
            self.restore(checkpoint)
        while self.step < self.steps:
            loss = self.train_step()
            if self.step % SAVED_EVERY == 0 or self.step == self.steps:
                self.save(checkpoint)
                print(f"{name}: step {self.step} of {self.steps}, loss {loss:.3f}", flush=True)


@torch.no_grad()
def objective_figures(model: EncDecDenoiseMaskedTokenPredModel, features: list[Tensor]) -> dict[str, Any]:
    """Loss and accuracy of the objective's terms at each context, and the tokens' baselines, on features `[D, T]`."""
    model.eval()
    counts = TokenCounts(model.quantizer.num_classes, lags=model.objective.steps)
    totals = []
    for index in range(0, len(features), EVALUATED_AT_ONCE):
        batch, lengths = (tensor.to(model.device) for tensor in padded(features[index : index + EVALUATED_AT_ONCE]))
        speech = SpeechFeatures.without_noise(batch, lengths)
        mask = model.evaluation_mask(speech, batch_idx=index) if model.objective.masks else None
        totals.append(model.evaluate_objective(speech, mask))
        counts.add(*model.tokenize(speech))
    metrics = ObjectiveTotals.sum(totals).metrics("val")
    baselines = counts.baselines()
    assert baselines is not None
    return {
        **{name: float(value) for name, value in metrics.items()},
        **baselines.metrics("val"),
        "val_most_frequent": baselines.most_frequent,
    }
