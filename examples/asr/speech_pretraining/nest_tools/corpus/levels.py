"""How loud the corpus is."""

import numpy as np

MAX_PEAK = 0.95
"""Of full scale."""


def gain(audio: np.ndarray, rms: float) -> float:
    """The factor that brings the audio to this level, or to the highest one without clipping."""
    return min(rms / np.sqrt(np.mean(audio**2)), MAX_PEAK / np.abs(audio).max())


def to_int16(audio: np.ndarray) -> np.ndarray:
    """16-bit samples of audio scaled to [-1, 1]."""
    return np.clip(np.rint(audio * 32767), -32768, 32767).astype(np.int16)
