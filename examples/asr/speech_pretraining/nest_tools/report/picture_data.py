"""What a picture of a context shows, in seconds; it knows nothing of models."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """From `start` to `end`, in seconds of the utterance; either may lie outside of it, or be infinite."""

    start: float
    end: float

    def within(self, seconds: float) -> "Interval":
        """The part of it that lies in an utterance of that length; empty parts begin where they end."""
        start = min(max(self.start, 0.0), seconds)
        return Interval(start, max(start, min(self.end, seconds)))


@dataclass(frozen=True)
class Spectrogram:
    """An utterance to plot on."""

    name: str
    log_mel: np.ndarray
    """[D, T]."""
    frame_seconds: float

    @property
    def seconds(self) -> float:
        """The length of the utterance."""
        return self.log_mel.shape[1] * self.frame_seconds


@dataclass(frozen=True)
class SampledMask:
    """One mask of one utterance."""

    masked: Sequence[Interval]
    blind: Sequence[Interval]
    """The part of it that is a target for which one layer shows no other frame."""
    window: Interval
    """Where masking could happen."""
    masked_fraction: float
    targets: int
    blind_targets: int


@dataclass(frozen=True)
class ContextView:
    """All that a picture of one context shows, for one encoder frame, the position."""

    context: str
    """`[80, 0]`."""
    presets: Sequence[str]
    """Names of that context."""
    layers: int
    frame: Interval
    """The position."""
    layer: Interval
    """What one attention layer sees from there."""
    stack: Interval
    """What all layers, their convolutions and the subsampling reach from there."""
    masks: dict[str, SampledMask] = field(default_factory=dict)
    """One for each way of masking, by its name."""
    shown: str | None = None
    """The way of masking whose mask lies over the spectrogram."""
