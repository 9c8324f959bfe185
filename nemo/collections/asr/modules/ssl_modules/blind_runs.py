"""Runs of wholly masked encoder frames, and how to open those that a limited left context cannot see past.

An encoder frame is blind if it is wholly masked and so are all encoder frames that one attention layer sees before
it: its target then has to be predicted from masked frames alone. Shapes: `T` frames of the mask, `S` encoder frames,
`S = ceil(T / subsampling_factor)`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.mask_windows import UNLIMITED

__all__ = [
    "blank_frames",
    "blind_frames",
    "encoder_frames",
    "frames_to_open",
    "left_limit",
    "steps_from_visible",
    "unmask",
    "wholly_masked_frames",
]

# The mask of an encoder frame of 1, 2, 4 or 8 frames is one machine word: its type, and its value where all are
# masked. On a CPU, comparing and writing words is several times faster than reducing over so short a dimension.
_WORDS = {
    1: (torch.uint8, 0x01),
    2: (torch.int16, 0x0101),
    4: (torch.int32, 0x01010101),
    8: (torch.int64, 0x0101010101010101),
}


def encoder_frames(mask: Tensor, subsampling_factor: int, fill: bool) -> Tensor:
    """The mask by encoder frames: bool `[B, T]` to `[B, S, subsampling_factor]`, the last one completed by `fill`."""
    mask = _completed(mask, subsampling_factor, fill)
    return mask.unflatten(1, (mask.shape[1] // subsampling_factor, subsampling_factor))


def blank_frames(mask: Tensor, lengths: Tensor, subsampling_factor: int) -> Tensor:
    """Which encoder frames show nothing: each of their frames is masked or lies past the length.

    The length may cut the last encoder frame of an utterance short. It then counts by the frames that it has. Encoder
    frames past the length are blank.

    Args:
        mask: bool `[B, T]`, clear at and past `lengths`.
        lengths: `[B]`, in frames.
        subsampling_factor: frames in an encoder frame.

    Returns:
        bool `[B, S]`.
    """
    past = torch.arange(mask.shape[1], device=mask.device) >= lengths.unsqueeze(1)
    return _all_masked(_completed(mask | past, subsampling_factor, True), subsampling_factor)


def wholly_masked_frames(mask: Tensor, lengths: Tensor, subsampling_factor: int) -> Tensor:
    """The `blank_frames` that belong to the utterance, bool `[B, S]`; arguments as there."""
    # An encoder frame that belongs to the utterance has its first frame there.
    return blank_frames(mask, lengths, subsampling_factor) & mask[:, ::subsampling_factor]


def blind_frames(mask: Tensor, lengths: Tensor, left: int, subsampling_factor: int) -> Tensor:
    """Which encoder frames are wholly masked, with none that is not among the `left` before them, bool `[B, S]`.

        >>> mask = torch.tensor([[False, False, True, True, True, True]])
        >>> blind_frames(mask, torch.tensor([6]), left=1, subsampling_factor=2).tolist()
        [[False, False, True]]

    Args:
        mask: bool `[B, T]`, clear at and past `lengths`.
        lengths: `[B]`, in frames.
        left: left context in encoder frames; -1 for no limit.
        subsampling_factor: frames in an encoder frame.
    """
    wholly_masked = wholly_masked_frames(mask, lengths, subsampling_factor)
    limit = left_limit(left, wholly_masked.shape[1])
    return wholly_masked & (steps_from_visible(wholly_masked, limit) > limit)


def steps_from_visible(blank: Tensor, limit: int) -> Tensor:
    """How many encoder frames back the nearest visible one is; 0 for a visible one itself.

    Args:
        blank: which encoder frames are not visible, bool `[B, S]`.
        limit: a visible frame is assumed `limit + 1` frames before the first one, so that a run of blank frames at the
            start is past the limit from its first frame on.

    Returns:
        int32 `[B, S]`.
    """
    index = torch.arange(blank.shape[1], dtype=torch.int32, device=blank.device)
    return index - torch.where(blank, -(limit + 1), index).cummax(dim=1).values


def left_limit(left: int, num_frames: int) -> int:
    """The left context as a number of encoder frames from 0 to `num_frames`; -1 (no limit) becomes `num_frames`."""
    return num_frames if left == UNLIMITED else min(left, num_frames)


def frames_to_open(mask: Tensor, lengths: Tensor, left: int, subsampling_factor: int) -> Tensor:
    """The fewest encoder frames to unmask so that none is blind.

    A run of wholly masked frames is opened at every `(left + 1)`-th of them, and a run at the start of the utterance
    also at its first. With `left = 0` every wholly masked frame is opened.

    Args:
        mask: bool `[B, T]`, clear at and past `lengths`.
        lengths: `[B]`, in frames.
        left: left context in encoder frames; -1 for no limit.
        subsampling_factor: frames in an encoder frame.

    Returns:
        bool `[B, S]`; undefined for encoder frames past the length.
    """
    blank = blank_frames(mask, lengths, subsampling_factor)
    limit = left_limit(left, blank.shape[1])
    # A remainder of 0 is less than `blank` in blank frames alone, where `blank` is 1.
    return steps_from_visible(blank, limit).remainder_(limit + 1) < blank


def unmask(mask: Tensor, opened: Tensor, subsampling_factor: int) -> Tensor:
    """A copy of the mask, bool `[B, T]`, that is clear in the encoder frames `opened`, bool `[B, S]`."""
    if subsampling_factor in _WORDS and mask.shape[1] > 0:
        words = _completed(mask, subsampling_factor, False).contiguous().view(_WORDS[subsampling_factor][0])
        cleared = words.masked_fill(opened, 0).view(torch.bool)
    else:
        frames = encoder_frames(mask, subsampling_factor, False)
        cleared = frames.masked_fill(opened.unsqueeze(2), False).flatten(1)
    return cleared[:, : mask.shape[1]]


def _completed(mask: Tensor, subsampling_factor: int, fill: bool) -> Tensor:
    """The mask with its last encoder frame completed by `fill`."""
    missing = -mask.shape[1] % subsampling_factor
    return F.pad(mask, (0, missing), value=fill) if missing else mask


def _all_masked(mask: Tensor, subsampling_factor: int) -> Tensor:
    """Which encoder frames have every frame masked; bool `[B, T]`, with a complete last one, to `[B, S]`."""
    if subsampling_factor not in _WORDS or mask.shape[1] == 0:
        return encoder_frames(mask, subsampling_factor, True).all(dim=2)
    dtype, masked = _WORDS[subsampling_factor]
    return mask.contiguous().view(dtype) == masked
