"""Checks of what masking is given.

A value on a GPU is not checked: reading it would make the host wait for the device.
"""

from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.mask_windows import UNLIMITED
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["check_current_frame", "check_features", "check_left", "check_lengths", "readable"]


def readable(tensor: Tensor) -> bool:
    """Whether values can be read without making the host wait for a device or breaking a compiled graph."""
    return tensor.device.type == "cpu" and tensor.numel() > 0 and not torch.compiler.is_compiling()


def check_left(name: str, value: Any) -> int:
    """Returns a left context as an int; errors as `check_whole_number`."""
    allowed = "a whole number of encoder frames >= 0, or -1 for no limit"
    return check_whole_number(name, value, UNLIMITED, allowed=allowed)


def check_features(feats: Tensor, lengths: Tensor, channels: int) -> None:
    """Refuses features that are not `[B, D, T]` with `D = channels`, and lengths that are not `[B]`.

    Raises:
        ValueError: naming `input_feats` or `input_lengths`.
    """
    if feats.dim() != 3 or feats.shape[1] != channels:
        raise ValueError(f"input_feats must be [B, D, T] with D = {channels}; got {list(feats.shape)}")
    if isinstance(lengths, Tensor) and lengths.shape != feats.shape[:1]:
        raise ValueError(f"input_lengths must be [B] = [{feats.shape[0]}]; got {list(lengths.shape)}")


def check_lengths(lengths: Tensor, max_time: int) -> Tensor:
    """Returns lengths `[B]` as int64. Where they cannot be read, those past `max_time` frames are cut to it.

    Raises:
        TypeError: no tensor, or not one of whole numbers.
        ValueError: another shape, or a length below 0 or past `max_time`.
    """
    _check_whole_numbers("input_lengths", lengths)
    if lengths.dim() != 1:
        raise ValueError(f"input_lengths must be [B]; got {list(lengths.shape)}")
    if not readable(lengths):
        return lengths.long().clamp(0, max_time)
    values = lengths.tolist()
    shortest, longest = min(values), max(values)
    if shortest < 0 or longest > max_time:
        wrong = shortest if shortest < 0 else longest
        raise ValueError(f"input_lengths must be from 0 to T = {max_time} frames; got {wrong}")
    return lengths.long()


def check_current_frame(current_frame: int | Tensor | None, lengths: Tensor) -> int | Tensor | None:
    """Returns None, an int >= 0, or an int64 tensor `[B]` of numbers >= 0 on the device of `lengths` `[B]`.

    Raises:
        TypeError: no whole number, and no tensor of them.
        ValueError: another shape than that of `lengths`, or a number below 0.
    """
    if current_frame is None:
        return None
    if not isinstance(current_frame, Tensor):
        allowed = "None, a whole number of frames >= 0, or a tensor of them [B]"
        return check_whole_number("current_frame", current_frame, 0, allowed=allowed)
    _check_whole_numbers("current_frame", current_frame)
    if current_frame.shape != lengths.shape:
        raise ValueError(f"current_frame must be [B] = {list(lengths.shape)}; got {list(current_frame.shape)}")
    if not readable(current_frame):
        return current_frame.to(lengths).clamp_min(0)
    first = int(current_frame.min())
    if first < 0:
        raise ValueError(f"current_frame must be >= 0 in every utterance; got {first}")
    return current_frame.to(lengths)


def _check_whole_numbers(name: str, value: Any) -> None:
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a tensor of whole numbers [B], in frames; got {got}")
