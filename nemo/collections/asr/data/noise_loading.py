"""Noise for one utterance at a time: the functions of NeMo's data set of speech with noise."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nemo.collections.asr.data.noise_manifests import read_noise_manifests
from nemo.collections.asr.data.noise_recordings import NoiseRecordings, audible_segment, open_recording, white_noise

__all__ = ["load_noise_audio", "load_noise_manifest", "sample_noise"]


def load_noise_manifest(noise_manifest: str | Sequence[str] | None) -> list[dict[str, Any]]:
    """See `read_noise_manifests`."""
    return read_noise_manifests(noise_manifest)


def load_noise_audio(
    sample: Mapping[str, Any],
    sample_rate: int,
    max_audio_len: int | None = None,
    pad_to_max: bool = True,
    min_white_noise_db: int = -90,
    max_white_noise_db: int = -46,
    max_trial: int = 100,
) -> tuple[Tensor, Tensor]:
    """Reads noise for one utterance.

    Args:
        sample: an entry of a noise manifest.
        sample_rate: Hz.
        max_audio_len: samples of the utterance; from a longer recording, a random part of that length is read.
        pad_to_max: whether zeros are appended to shorter noise.
        min_white_noise_db, max_white_noise_db: level of the white noise that takes the place of a silent recording.
        max_trial: how many parts are tried before a recording counts as silent.

    Returns:
        noise [N], and how many of its samples are noise, [].

    Raises:
        UnreadableAudio: the recording cannot be read.
    """
    generator = np.random.default_rng(np.random.randint(2**31))
    with open_recording(sample, sample_rate) as recording:
        length = min(recording.length, max_audio_len or recording.length)
        noise = audible_segment(recording, length, length, generator, trials=max_trial)
    if noise is None:
        noise = white_noise(length, generator, min_white_noise_db, max_white_noise_db)
    return _padded(torch.from_numpy(noise), max_audio_len if pad_to_max else None)


def sample_noise(
    noise_data: Sequence[dict[str, Any]], sample_rate: int, max_audio_len: int | None = None, max_trial: int = 20
) -> tuple[Tensor, Tensor]:
    """Takes noise for one utterance from a random recording; all of one where `max_audio_len` is None.

    Args:
        noise_data: entries of noise manifests.
        sample_rate: Hz.
        max_audio_len: samples of the utterance.
        max_trial: how many recordings that cannot be read are passed over.

    Returns:
        As `load_noise_audio`; without any usable recording, as many zeros as the utterance has samples.
    """
    length = max_audio_len or sys.maxsize
    noise = NoiseRecordings(noise_data).sample(length, length, sample_rate, max_failures=max_trial)
    if len(noise) == 0:
        return torch.zeros(max_audio_len or 0), torch.tensor(max_audio_len or 0)
    return _padded(torch.from_numpy(noise), max_audio_len)


def _padded(noise: Tensor, length: int | None) -> tuple[Tensor, Tensor]:
    padding = max(0, (length or 0) - len(noise))
    return torch.nn.functional.pad(noise, (0, padding)), torch.tensor(len(noise))
