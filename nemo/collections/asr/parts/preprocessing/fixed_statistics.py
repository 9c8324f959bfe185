"""Normalisation by fixed statistics, `normalize: {fixed_mean: [...], fixed_std: [...]}`: a live stream can have it.

Mean and deviation of each channel come from a corpus, so they are known before an utterance begins.
"""

import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["FixedStatistics", "fixed_statistics", "normalize_by"]

_KEYS = ("fixed_mean", "fixed_std")

FixedStatistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


def fixed_statistics(normalize: Any, channels: int, name: str = "preprocessor.normalize") -> FixedStatistics | None:
    """Reads the option `normalize` of a preprocessor; None if it is not one of fixed statistics.

    Args:
        normalize: what the config says: a mapping with `fixed_mean` and `fixed_std`, or another kind of normalisation.
        channels: D, of the features.
        name: what the error messages call the option.

    Raises:
        TypeError, ValueError: only one of the two keys, another number of entries than channels, an entry that is no
            finite number, or a deviation that is not above 0.
    """
    if not isinstance(normalize, Mapping) or not any(key in normalize for key in _KEYS):
        return None
    for key in _KEYS:
        if key not in normalize:
            raise ValueError(f"{name} must have both fixed_mean and fixed_std; got {', '.join(map(str, normalize))}")
    mean, std = (_numbers(f"{name}.{key}", normalize[key], channels) for key in _KEYS)
    if min(std) <= 0:
        raise ValueError(f"{name}.fixed_std must be {channels} numbers above 0; got {min(std)!r} among them")
    return mean, std


def normalize_by(statistics: FixedStatistics, features: Tensor) -> Tensor:
    """Features `[B, D, T]`, less the mean and divided by the deviation of each channel."""
    mean, std = _tensors(statistics, features.device, features.dtype)
    return (features - mean) / std


@functools.lru_cache(maxsize=16)
def _tensors(statistics: FixedStatistics, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Both as `[D, 1]`; kept, so that not every batch copies them to a GPU."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values, device=device, dtype=dtype).unsqueeze(1) for values in statistics)
    return mean, std


def _numbers(name: str, values: Any, channels: int) -> tuple[float, ...]:
    allowed = f"{channels} numbers, one for each of the preprocessor's features"
    if isinstance(values, Tensor):
        values = values.flatten().tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be {allowed}; got {values!r}")
    values = list(values)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be {allowed}; got {value!r} among them")
    if len(values) != channels or not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be {allowed}; got {len(values)}, from {values[:1]} on")
    return tuple(map(float, values))
