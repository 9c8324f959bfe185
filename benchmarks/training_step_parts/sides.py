"""What is compared: the recipes of both sides, and the process of each."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts_path import CONFIGS

CONFIG = CONFIGS / "nest_fast-conformer_streaming_dynamic.yaml"
FUTURE_CONFIG = CONFIGS / "nest_fast-conformer_streaming_future.yaml"

SIZES = {
    "small": {"d_model": 176, "n_heads": 4, "n_layers": 16},
    "large": {"d_model": 512, "n_heads": 8, "n_layers": 17},
}
OFFLINE = {
    "preprocessor.normalize": "per_feature",
    "preprocessor.pad_to": 16,
    "encoder.causal_downsampling": False,
    "encoder.att_context_size": [-1, -1],
    "encoder.att_context_probs": None,
    "encoder.conv_norm_type": "batch_norm",
    "encoder.conv_context_size": None,
}
STREAMING_KEYS = (
    "masking.causal",
    "masking.left_context_size",
    "masking.causal_window",
    "quantizer.normalize",
    "encoder.blockwise_attention",
)
WARM_UP_STEPS = 2
SIDES = {"NeMo": "0", "ours": "1", "ours, streaming": "1", "ours, future": "1"}
"""The sides, and `NEMO_OVERLAY` in their processes."""


def model_config(side: str, size: str) -> Any:
    """The config of a side's model."""
    from omegaconf import OmegaConf, open_dict

    config = OmegaConf.load(CONFIG).model
    for key, value in SIZES[size].items():
        config.encoder[key] = value
    config.update(train_ds=None, validation_ds=None)
    if side == "ours, future":
        OmegaConf.set_struct(config, False)
        config.merge_with(OmegaConf.load(FUTURE_CONFIG).model)
    elif side != "ours, streaming":
        with open_dict(config):
            for key, value in OFFLINE.items():
                OmegaConf.update(config, key, value)
            for key in STREAMING_KEYS:
                section, name = key.split(".")
                config[section].pop(name)
            for key in ("target_shift", "context_seed"):
                config.pop(key)
    return config


class Side:
    """The process of one side."""

    def __init__(self, name: str, script: Path, options: Sequence[str]):
        self.name = name
        command = [sys.executable, str(script), *options, "--side", name]
        environment = {**os.environ, "NEMO_OVERLAY": SIDES[name]}
        self.errors = []
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        for line in self.process.stderr:
            self.errors = [*self.errors[-40:], line]

    def step(self) -> dict:
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, as the missing answer says
        answer = self.process.stdout.readline()
        if not answer:
            self.process.wait()
            raise SystemExit(f"{self.name} ended with status {self.process.returncode}:\n{''.join(self.errors)}")
        return json.loads(answer)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()
