"""Writes audio and manifests for tests."""

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def write_audio(file: Path, samples: np.ndarray, rate: int = RATE, **options) -> Path:
    """Writes samples [N] or [N, channels]; options are those of `soundfile.write`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, rate, **options)
    return file


def write_manifest(file: Path, entries: list[dict]) -> Path:
    """Writes one JSON object a line."""
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return file


def speech_like(seed: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """Noise [N] with a moving envelope."""
    generator = np.random.default_rng(seed)
    samples = int(seconds * rate)
    envelope = generator.random(samples // 160 + 1).repeat(160)[:samples]
    return 0.1 * envelope * generator.standard_normal(samples)
