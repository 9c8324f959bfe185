"""The training of one side, in a process of its own: a step for each line on standard input."""

import argparse
import json
import os
import sys
import time
from typing import Any, TextIO

import lightning.pytorch as pl
import torch

from training_step_parts.memory import PeakMemory, memory
from training_step_parts.profiled import PartsOfAStep
from training_step_parts.sides import WARM_UP_STEPS, model_config


def run_side(options: argparse.Namespace) -> None:
    """Trains step by step: waits for a line on stdin before each, and answers with a line of JSON on stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what NeMo prints goes to stderr

    from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch
    from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = EncDecDenoiseMaskedTokenPredModel(model_config(options.side, options.size))
    clean = 0.1 * torch.randn(options.batch, int(16000 * options.seconds))
    noise = 0.02 * torch.randn_like(clean)
    lengths = torch.full((options.batch,), clean.shape[1])
    batch = AudioNoiseBatch(
        audio=clean,
        audio_len=lengths,
        noise=noise,
        noise_len=lengths,
        noisy_audio=clean + noise,
        noisy_audio_len=lengths,
    )
    parts = PartsOfAStep(model) if options.profile else None
    steps = options.steps + WARM_UP_STEPS
    trainer = pl.Trainer(
        accelerator="gpu" if options.device == "cuda" else "cpu",
        devices=1,
        precision=options.precision,
        max_steps=steps,
        callbacks=[*([parts] if parts else []), InTurns(answers, steps, parts)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model.set_trainer(trainer)
    trainer.fit(model, torch.utils.data.DataLoader([batch] * steps, batch_size=None))


class InTurns(pl.Callback):
    """Waits for its turn before each step, and answers what the step took."""

    def __init__(self, answers: TextIO, steps: int, parts: PartsOfAStep | None):
        self._answers, self._steps, self._parts = answers, steps, parts

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        device = trainer.strategy.root_device
        if batch_idx == 0:
            self._before = memory(device)
        if not sys.stdin.readline():
            raise SystemExit("the benchmark has ended")
        self._watch = PeakMemory(device)
        if self._parts is not None and batch_idx >= WARM_UP_STEPS:
            self._parts.begin_step()
        self._begun, self._begun_cpu = time.perf_counter(), time.process_time()

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        answer = {
            "seconds": time.perf_counter() - self._begun,
            "cpu_seconds": time.process_time() - self._begun_cpu,
            "bytes": self._watch.stop() - self._before,
            "loss": float(outputs["loss"]),
        }
        if self._parts is not None and batch_idx >= WARM_UP_STEPS:
            self._parts.end_step()
        answer["parameters"] = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
        if self._parts is not None and batch_idx == self._steps - 1:
            answer["profile"] = self._parts.summary()
        self._answers.write(json.dumps(answer) + "\n")
