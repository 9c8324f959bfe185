"""Checks of the audio that a caller pushes into a stream. They read the values and change nothing."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_audio", "check_lengths", "check_finite", "silence_past"]


def check_audio(audio: Any, batch_size: int) -> Tensor:
    """The samples as a tensor `[B, N]`, of the caller's own type and on its device.

    Raises:
        TypeError: neither a tensor nor an array, or not of floating point.
        ValueError: a wrong shape.
    """
    if isinstance(audio, np.ndarray):
        audio = torch.from_numpy(np.require(audio, requirements=("C", "W")))
    if not isinstance(audio, Tensor):
        raise TypeError(f"audio must be a torch.Tensor or a numpy array; got {type(audio).__name__}")
    if not audio.dtype.is_floating_point:
        raise TypeError(
            f"audio must be floating point, scaled to [-1, 1]; got {audio.dtype}. "
            "Convert 16-bit PCM by audio.astype('float32') / 32768 (numpy) or audio.float() / 32768 (torch)"
        )
    if audio.dim() == 1 and batch_size == 1:
        audio = audio[None]
    if audio.dim() != 2 or audio.shape[0] != batch_size:
        allowed = f"[{batch_size}, N]" + (" or [N]" if batch_size == 1 else "")
        raise ValueError(f"audio must be of shape {allowed}, one row for each stream; got shape {list(audio.shape)}")
    return audio


def check_lengths(lengths: Any, batch_size: int, samples: int) -> np.ndarray:
    """How many of the samples are each stream's own, `[B]`, int64; None stands for all.

    Raises:
        TypeError: not whole numbers.
        ValueError: a wrong shape, or a number out of range.
    """
    if lengths is None:
        return np.full(batch_size, samples, dtype=np.int64)
    array = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
    allowed = f"{batch_size} whole numbers from 0 to {samples}, one for each stream"
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"lengths must be {allowed}; got {lengths!r}")
    if array.shape != (batch_size,) or array.min() < 0 or array.max() > samples:
        raise ValueError(f"lengths must be {allowed}; got {array.tolist()}")
    return array.astype(np.int64)


def check_finite(audio: Tensor) -> float:
    """The largest absolute value of the samples `[B, N]`, 0 where there are none.

    Raises:
        ValueError: a sample is infinite or NaN; the message says where.
    """
    if audio.numel() == 0:
        return 0.0
    peak = torch.linalg.vector_norm(audio, ord=float("inf")).item()
    if not np.isfinite(peak):
        stream, sample = torch.nonzero(~torch.isfinite(audio))[0].tolist()
        raise ValueError(
            f"audio must be finite; got {audio[stream, sample].item()} in stream {stream} at sample {sample}"
        )
    return peak


def silence_past(audio: Tensor, lengths: np.ndarray) -> Tensor:
    """Samples `[B, N]` with zeros from `lengths[b]` on in row b."""
    if not (lengths < audio.shape[1]).any():
        return audio
    own = torch.arange(audio.shape[1]) < torch.from_numpy(lengths)[:, None]
    return audio.masked_fill(~own.to(audio.device), 0.0)
