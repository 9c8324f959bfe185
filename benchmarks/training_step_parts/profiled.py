"""How a step divides into its parts and operators."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch.profiler import ProfilerActivity, profile, record_function


class PartsOfAStep(pl.Callback):
    """Profiles the measured steps; `summary()` divides them by part and by operator."""

    def __init__(self, model: Any):
        self.open: list[record_function] = []
        self.profile: profile | None = None
        named = {
            "features": [model.preprocessor],
            "masking": [model.mask_processor],
            "subsampling": [model.encoder.pre_encode],
            "layers": model.encoder.layers,
            "decoder": [model.decoder],
            "tokenizer": [model.quantizer],
            "loss": [model.loss],
        }
        for name, modules in named.items():
            for module in modules:
                module.register_forward_pre_hook(lambda *_, name=name: self.enter(name))
                module.register_forward_hook(lambda *_: self.leave())

    def enter(self, name: str) -> None:
        """Begins a part within the one that is open."""
        self.open.append(record_function(f"part: {name}"))
        self.open[-1].__enter__()

    def leave(self) -> None:
        """Ends the part that was begun last."""
        self.open.pop().__exit__(None, None, None)

    def begin_step(self) -> None:
        """Begins a step, and with the first one the profile."""
        if self.profile is None:
            kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self.profile = profile(activities=kinds)
            self.profile.__enter__()
        self.enter("step")

    def end_step(self) -> None:
        """Ends whatever is open."""
        while self.open:
            self.leave()

    def on_before_backward(self, trainer: pl.Trainer, model: pl.LightningModule, loss: torch.Tensor) -> None:
        self.enter("backward")

    def on_after_backward(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.leave()

    def on_before_optimizer_step(self, trainer: pl.Trainer, model: pl.LightningModule, optimizer: Any) -> None:
        self.enter("optimizer")

    def summary(self) -> dict[str, dict[str, float]]:
        """Microseconds of each part and of each operator, all steps together; ends the profile."""
        self.profile.__exit__(None, None, None)
        events = self.profile.key_averages()
        parts = {event.key[6:]: event.cpu_time_total for event in events if event.key.startswith("part: ")}
        on_gpu = torch.cuda.is_available()
        operators = {
            event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
            for event in events
            if event.key.startswith(("aten::", "Optimizer"))
        }
        return {"parts": parts, "operators": operators}
