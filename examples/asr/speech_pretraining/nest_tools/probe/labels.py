"""Utterances whose phones are known, and the phone that belongs to each encoder frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.target_alignment import subsampling_target_shift
from nest_tools.audio import AudioReader
from nest_tools.corpus import read_phones
from nest_tools.utterances import Skipped, read_manifest


@dataclass(frozen=True)
class LabelledAudio:
    """Audio [N] at the model's rate, and its phones as (label, start, end) in seconds."""

    audio: Tensor
    phones: list[tuple[str, float, float]]


def read_labelled(
    manifest: Path, reader: AudioReader, minutes: float | None = None
) -> tuple[list[LabelledAudio], list[Skipped]]:
    """The utterances of a corpus's manifest, up to this much speech, and what cannot be used of it.

    Raises:
        FileNotFoundError, ValueError: as `read_manifest`.
    """
    utterances, skipped = read_manifest(manifest)
    labelled, samples_read = [], 0
    for utterance, samples in reader.read_each(utterances, skipped):
        if minutes is not None and samples_read >= 60 * minutes * reader.sample_rate:
            break
        try:
            phones = read_phones(utterance.path)
        except (OSError, ValueError, TypeError) as error:
            skipped.append(Skipped(str(utterance.path), f"its phones cannot be read: {error}"))
            continue
        samples_read += len(samples)
        labelled.append(LabelledAudio(torch.from_numpy(samples), [(p.label, p.start, p.end) for p in phones]))
    return labelled, skipped


class FrameLabels:
    """The phone in the middle of what an encoder frame has newly seen, as a number.

    Token `k` is made of the feature frames `k * factor ... k * factor + factor - 1`, and encoder frame `k + shift` is
    the first one that has seen them all. Its label is the phone in the middle of that token; the `shift` frames before
    the first token have none (-1).

    Args:
        model: a NeMo model with a Conformer encoder.
        labels: the phones to be numbered.
    """

    def __init__(self, model: Any, labels: Sequence[str]):
        encoder = model.encoder
        pre_encode = getattr(encoder.pre_encode, "pre_encode", encoder.pre_encode)
        self.factor = encoder.subsampling_factor
        self.shift = subsampling_target_shift(pre_encode, self.factor)
        self.stride = model.cfg.preprocessor.window_stride
        self.numbers = {label: number for number, label in enumerate(labels)}

    def __call__(self, utterance: LabelledAudio, frames: int) -> Tensor:
        """Int64 [S]; phones that are not among the labels are -1."""
        middles = ((torch.arange(frames) - self.shift) * self.factor + (self.factor - 1) / 2) * self.stride
        ends = torch.tensor([end for _, _, end in utterance.phones])
        phone = torch.searchsorted(ends, middles.clamp_min(0), right=True).clamp_max(len(ends) - 1)
        numbers = torch.tensor([self.numbers.get(label, -1) for label, _, _ in utterance.phones])
        return torch.where(middles < 0, -1, numbers[phone])
