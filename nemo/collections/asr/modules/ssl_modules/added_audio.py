"""Audio that is added to an utterance: where its pieces lie, and how loud they are."""

import random
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["AddedAudio", "BatchNoise", "NoiseSource", "repeated", "sample_piece_lengths", "sample_places"]


class NoiseSource(Protocol):
    """Noise for the utterances of a batch."""

    def segment(self, utterance: int, length: int, anywhere: bool = False) -> Tensor:
        """Noise [N], N <= `length`, for one utterance of the batch; [0] where there is none.

        `anywhere` takes it from a random place of what an utterance's length of noise holds, not from its start.
        """


@dataclass(frozen=True)
class BatchNoise:
    """The noise that a batch was loaded with: [B, N], and lengths [B] in samples."""

    noise: Tensor
    lengths: Tensor

    def segment(self, utterance: int, length: int, anywhere: bool = False) -> Tensor:
        """See `NoiseSource`."""
        recording = self.noise[utterance, : int(self.lengths[utterance])]
        start = random.randint(0, len(recording) - length) if anywhere and len(recording) > length else 0
        return recording[start : start + length]


@dataclass(frozen=True)
class AddedAudio:
    """What is added to one utterance."""

    pieces: list[Tensor]
    """[N] each, in the order of their places; none may be empty."""

    starts: list[int]
    """Where each piece begins in the utterance, in samples; pieces do not overlap."""

    energy_ratio: float
    """dB: mean energy of the utterance over mean energy of the pieces."""

    def gain(self, utterance: Tensor) -> float:
        """The factor of the pieces that gives the energy ratio to `utterance` [N]; 0 if they are silent."""
        samples = sum(len(piece) for piece in self.pieces)
        energy = sum(float(torch.dot(piece, piece)) for piece in self.pieces)
        if not energy:
            return 0.0
        wanted = float(torch.dot(utterance, utterance)) / len(utterance) / 10 ** (self.energy_ratio / 10)
        return (wanted * samples / energy) ** 0.5


def sample_piece_lengths(total: int, pieces: int) -> list[int]:
    """Cuts `total` samples into up to `pieces` pieces: each sample falls into any of them with equal probability."""
    lengths = np.random.multinomial(total, [1 / pieces] * pieces)
    return [int(length) for length in lengths if length]


def sample_places(lengths: list[int], utterance: int) -> list[int]:
    """Lays pieces of these lengths into `utterance` samples, in order: each begins anywhere in what is left free."""
    starts, used, end = [], 0, 0
    free = utterance - sum(lengths)
    for length in lengths:
        starts.append(random.randint(end, used + free))
        used += length
        end = starts[-1] + length
    return starts


def repeated(audio: Tensor, length: int) -> Tensor:
    """The first `length` samples of `audio` [N], N > 0, played again and again."""
    return audio[:length] if len(audio) >= length else audio.repeat(-(-length // len(audio)))[:length]
