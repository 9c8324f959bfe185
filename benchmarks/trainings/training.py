"""A training that was killed gives the same numbers, to the last bit, as one that was not."""

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from nest_tools.command import written_whole
from torch import Tensor

from trainings.data import RandomCrops

WARM_UP = 100


def cosine(step: int, steps: int, warm_up: int = WARM_UP) -> float:
    """Share of the peak learning rate: a linear warm-up, and a cosine from 1 down to 0.01."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1.01 + 0.99 * math.cos(math.pi * step / steps))


class ResumableTraining:
    """A model while it trains, and all that is needed to go on.

    Args:
        model: on its device, in training mode.
        crops: what it is trained on.
        steps: of the whole training, which the learning rate follows.
        peak: the highest learning rate.
        warm_up: steps in which the learning rate rises.
    """

    kept: ClassVar[tuple[str, ...]] = ("step",)
    """Attributes that a checkpoint holds besides weights, optimizer, contexts, crops and random state."""

    def __init__(self, model: Any, crops: RandomCrops, steps: int, peak: float, warm_up: int = WARM_UP):
        self.model, self.crops, self.steps = model, crops, steps
        self.step = 0
        self._weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._weights, peak, betas=(0.9, 0.98), weight_decay=0.0)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: cosine(step, steps, warm_up))

    def learn(self, loss: Tensor) -> None:
        """One step of the optimizer."""
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self.step += 1

    def save(self, checkpoint: Path) -> None:
        """Writes all that `restore` needs, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "sampler": self.model.context_sampler.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "crops": self.crops.state_dict(),
            "kept": {name: getattr(self, name) for name in self.kept},
        }
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
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
        for name, value in state["kept"].items():
            setattr(self, name, value)
