"""Windows: the frames of each utterance in which blocks may lie."""

from typing import NamedTuple

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.random_numbers import uniform, whole_numbers_below

__all__ = ["UNLIMITED", "Window", "random_window", "tail_window", "whole_utterance", "window_width"]

UNLIMITED = -1
"""A left context, or the width of a window, that has no limit."""


class Window(NamedTuple):
    """In each utterance, `width` consecutive frames from `start` on."""

    start: Tensor | None
    """int64 `[B, 1]`, in frames; None where every window begins at the first frame."""

    width: Tensor
    """int64 `[B, 1]`, in frames."""

    def end(self) -> Tensor:
        """The first frame past each window, int64 `[B, 1]`."""
        return self.width if self.start is None else self.start + self.width


def window_width(left: int, subsampling_factor: int) -> int:
    """The width, in frames, of a left context of `left` encoder frames; -1 where it has no limit."""
    return left if left == UNLIMITED else left * subsampling_factor


def whole_utterance(lengths: Tensor) -> Window:
    """All frames of each utterance; `lengths` int64 `[B]`, in frames."""
    return Window(None, lengths.unsqueeze(1))


def tail_window(lengths: Tensor, width: int, current_frame: int | Tensor | None = None) -> Window:
    """The last `width` frames before `end = min(current_frame, length)`, or all of them where there are fewer.

        >>> window = tail_window(torch.tensor([10, 3]), width=4)
        >>> window.start.tolist(), window.width.tolist()
        ([[6], [0]], [[4], [3]])

    Args:
        lengths: int64 `[B]`, in frames.
        width: in frames; -1 for no limit.
        current_frame: exclusive end of the window, in frames: an int, an int64 tensor `[B]`, or None for the length.
    """
    if isinstance(current_frame, Tensor):
        lengths = torch.minimum(lengths, current_frame)
    elif current_frame is not None:
        lengths = lengths.clamp_max(current_frame)
    window = whole_utterance(lengths)
    if width == UNLIMITED:
        return window
    visible = window.width.clamp_max(width)
    return Window(window.width - visible, visible)


def random_window(lengths: Tensor, width: int, generator: torch.Generator | None = None) -> Window:
    """`width` consecutive frames at a uniformly sampled place; the whole utterance where it is shorter.

    Args:
        lengths: int64 `[B]`, in frames.
        width: in frames; -1 for no limit.
        generator: where the random numbers come from; torch's own generator if None.
    """
    tail = tail_window(lengths, width)
    if tail.start is None:
        return tail
    numbers = uniform(tail.start.shape, lengths.device, generator)
    return Window(whole_numbers_below(tail.start + 1, numbers), tail.width)
