"""Pretraining of one arm, which goes on where it was ended."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from nest_tools.command import written_whole
from torch import Tensor
from trainings.data import RandomCrops, padded

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.models.masked_token_pred.objective_totals import ObjectiveTotals
from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures
from nemo.collections.asr.models.masked_token_pred.token_baselines import TokenCounts

WARM_UP = 100
SAVED_EVERY = 100
EVALUATED_AT_ONCE = 16


def cosine(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up of at most `WARM_UP` steps, then a cosine down to 1 %."""
    warm_up = min(WARM_UP, max(1, steps // 4))
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1.01 + 0.99 * math.cos(math.pi * step / steps))


class Pretraining:
    """A model while it trains: what it has seen, and all that is needed to go on.

    Args:
        model: on its device, in training mode.
        crops: what it is trained on.
        steps: of the whole training.
        peak: the highest learning rate.
    """

    def __init__(self, model: EncDecDenoiseMaskedTokenPredModel, crops: RandomCrops, steps: int, peak: float):
        self.model, self.crops, self.steps = model, crops, steps
        self.step, self.seconds = 0, 0.0
        self._weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._weights, peak, betas=(0.9, 0.98), weight_decay=0.0)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: cosine(step, steps))

    def train_step(self) -> float:
        """Trains on one batch, and returns its loss."""
        features, lengths = (tensor.to(self.model.device) for tensor in self.crops.next())
        started = time.process_time()
        loss, _ = self.model.training_loss(SpeechFeatures.without_noise(features, lengths))
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self.seconds += time.process_time() - started
        self.step += 1
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

    def save(self, checkpoint: Path) -> None:
        """Writes all that `restore` needs, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "sampler": self.model.context_sampler.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "crops": self.crops.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with written_whole(checkpoint) as temporary:
            torch.save(state, temporary)

    def restore(self, checkpoint: Path) -> None:
        """Goes on from what `save` wrote."""
        state = torch.load(checkpoint, map_location=self.model.device, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.model.context_sampler.load_state_dict(state["sampler"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        of_cpu, *of_gpus = (random_state.cpu() for random_state in state["random"])
        torch.set_rng_state(of_cpu)
        torch.cuda.set_rng_state_all(of_gpus)
        self.crops.load_state_dict(state["crops"])
        self.step, self.seconds = state["step"], state["seconds"]


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
