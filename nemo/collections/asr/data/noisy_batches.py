"""Batches of utterances, and the noise that augmentation asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.data.batch_memory import copied, zeros, zeros_like
from nemo.collections.asr.data.noise_recordings import NoiseRecordings

__all__ = ["RecordedNoise", "augmented", "pad_together"]


@dataclass(frozen=True)
class RecordedNoise:
    """Noise for the utterances of one batch, read when it is asked for."""

    recordings: NoiseRecordings
    sample_rate: int
    lengths: Sequence[int]
    """Samples of each utterance."""

    def segment(self, utterance: int, length: int, anywhere: bool = False) -> Tensor:
        """Noise [N], N <= `length`, from a window as long as the utterance; [0] where there is none."""
        window = self.lengths[utterance]
        return torch.from_numpy(self.recordings.sample(length, window, self.sample_rate, anywhere))

    def whole(self) -> tuple[Tensor, Tensor]:
        """Noise for all of every utterance, [B, N], and its lengths [B]; zeros where there is no noise."""
        segments = [self.segment(index, length) for index, length in enumerate(self.lengths)]
        segments = [
            segment if len(segment) else torch.zeros(length)
            for segment, length in zip(segments, self.lengths, strict=True)
        ]
        return pad_together(segments, max(self.lengths))


def pad_together(signals: Sequence[Tensor], length: int = 0) -> tuple[Tensor, Tensor]:
    """Signals [N] of any lengths as [B, N], zeros behind each, and their lengths [B]; N is at least `length`."""
    lengths = torch.tensor([len(signal) for signal in signals])
    padded = zeros(len(signals), max(length, int(lengths.max())))
    for row, signal in zip(padded, signals, strict=True):
        row[: len(signal)] = signal
    return padded, lengths


def augmented(batch: Any, batch_augmentor: Callable | None, noise: RecordedNoise) -> Any:
    """A batch with `noise`, `noisy_audio` [B, N] and their lengths.

    Args:
        batch: an `AudioNoiseBatch` with `audio` [B, N] and `audio_len` [B].
        batch_augmentor: an object with a method `mix(batch, noise)`, as NEST's augmentations here are. Any other
            callable is given the batch with noise for all of every utterance. None leaves all utterances clean.
        noise: where noise comes from.
    """
    mix = getattr(batch_augmentor, "mix", None)
    if mix is not None:
        return mix(batch, noise)
    if batch_augmentor is not None:
        signal, lengths = noise.whole()
        return batch_augmentor(replace(batch, noise=signal, noise_len=lengths))
    return replace(
        batch,
        noise=zeros_like(batch.audio),
        noise_len=batch.audio_len.clone(),
        noisy_audio=copied(batch.audio),
        noisy_audio_len=batch.audio_len.clone(),
    )
