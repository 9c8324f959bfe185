"""Block masks over time, as pure functions of tensors.

A mask is a boolean tensor `[B, T]`, True where a frame is hidden. Making one takes three steps, each of which can be
used alone:

1. choose a `Window` for every utterance: `whole_utterance`, `tail_window` or `random_window`;
2. draw blocks inside the windows: `sample_blocks`, or `sample_causal_blocks`, which also serves windows shorter than
   a block;
3. optionally open runs that a limited left context cannot look past: `frames_to_open`, then `unmask`.

A frame, without another word, is one of the features that are masked; there are `T`. Encoder frame `k` is made of
frames `k * subsampling_factor ... (k + 1) * subsampling_factor - 1`; there are `G = ceil(T / subsampling_factor)`.

Nothing here loops over the batch, moves a value to the host or depends on the values in a tensor for its shapes, so
everything runs under `torch.compile` and inside a CUDA graph. A `generator` may live on another device than the
lengths: the numbers are then drawn where it lives and copied, so that one CPU generator gives the same masks anywhere.
"""

import math
import numbers
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

UNLIMITED = -1


class Window(NamedTuple):
    """The frames of each utterance in which masking may happen: `width` of them from `start` on.

    Both are int64 columns `[B, 1]`, so that they broadcast against frames. `start` is None where every window
    begins at the first frame.
    """

    start: Tensor | None
    width: Tensor

    def end(self) -> Tensor:
        """The first frame past each window, `[B, 1]`."""
        return self.width if self.start is None else self.start + self.width


def check_whole_number(name: str, value: int, minimum: int, meaning: str) -> int:
    """Return `value` as an int, or say that the argument `name` must be `meaning`.

    Raises:
        TypeError: `value` is a bool, a float or anything else that is not a whole number.
        ValueError: `value` is below `minimum`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {meaning}; got {value!r} of type {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name} must be {meaning}; got {value!r}")
    return int(value)


def check_left(name: str, value: int) -> int:
    """Return a left context in encoder frames, or raise as `check_whole_number` does."""
    return check_whole_number(name, value, UNLIMITED, "a whole number of encoder frames >= 0, or -1 for no limit")


def check_subsampling_factor(value: int) -> int:
    """Return how many frames an encoder frame has, or raise as `check_whole_number` does."""
    meaning = "a whole number >= 1 of feature frames to an encoder frame"
    return check_whole_number("subsampling_factor", value, 1, meaning)


def readable(tensor: Tensor) -> bool:
    """Whether values can be looked at without making the host wait for a device or breaking a compiled graph."""
    return tensor.device.type == "cpu" and tensor.numel() > 0 and not torch.compiler.is_compiling()


# ------------------------------------------------------------------------------------------------------------ windows


def window_width(left: int, subsampling_factor: int) -> int:
    """Width in frames of the window that a left context of `left` encoder frames sees; -1 where it has no limit."""
    return left if left == UNLIMITED else left * subsampling_factor


def whole_utterance(lengths: Tensor) -> Window:
    """Every frame of an utterance; `lengths` int64 `[B]`, in frames."""
    return Window(None, lengths.unsqueeze(1))


def tail_window(lengths: Tensor, width: int, current_frame: int | Tensor | None = None) -> Window:
    """The last `width` frames before `end = min(current_frame, length)`, or all of them where there are fewer.

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
    seen = window.width.clamp_max(width)
    return Window(window.width - seen, seen)


def random_window(lengths: Tensor, width: int, generator: torch.Generator | None = None) -> Window:
    """`width` consecutive frames anywhere in the utterance, uniformly; all of its frames where there are fewer.

    Args:
        lengths: int64 `[B]`, in frames.
        width: in frames; -1 for no limit.
    """
    tail = tail_window(lengths, width)
    if tail.start is None:
        return tail
    uniform = _uniform(tail.start.shape, lengths.device, generator)
    return Window(_below(tail.start + 1, uniform), tail.width)


# ------------------------------------------------------------------------------------------------------------- blocks


def sample_blocks(
    window: Window,
    max_time: int,
    *,
    mask_prob: float,
    block_size: int,
    allow_overlap: bool,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw blocks inside each window: the distribution of NeMo's `RandomBlockMasking` on sequences of those widths.

    With `allow_overlap`, each frame of the window begins a block with probability `mask_prob`, if the block ends
    inside the window; a window shorter than a block stays clear. Without it, about `width * mask_prob` frames are
    hidden by blocks on distinct places of a randomly shifted grid; a window too short for them gets smaller blocks.

    Args:
        window: where blocks may lie, inside `[0, max_time)`.
        max_time: `T`, the frames of the mask.

    Returns:
        the mask, bool `[B, T]`.
    """
    changes, _ = _blocks(window, max_time, mask_prob, block_size, allow_overlap, generator)
    return _covered(changes, block_size)


def sample_causal_blocks(
    window: Window,
    max_time: int,
    *,
    mask_prob: float,
    block_size: int,
    allow_overlap: bool,
    max_mask_ratio: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`sample_blocks`, and one shorter block in every window that a whole block does not leave in part visible.

    A window of `2 <= n <= block_size` frames gets one block of `max(1, min(n - 1, floor(max_mask_ratio * n)))` frames
    at a uniformly drawn place. Where `mask_prob` is 0, nothing is masked in any window.

    Returns:
        the mask, bool `[B, T]`.
    """
    wide = window.width > block_size
    # Most batches have wide windows only; where it is free to look, as on a CPU, that saves the rest.
    if readable(wide) and wide.all():
        changes, _ = _blocks(window, max_time, mask_prob, block_size, allow_overlap, generator)
        return _covered(changes, block_size)
    wide_window = Window(window.start, window.width * wide)
    changes, uniform = _blocks(wide_window, max_time, mask_prob, block_size, allow_overlap, generator)
    if mask_prob > 0:
        _add_single_blocks(changes, window, (window.width > 1) ^ wide, max_mask_ratio, uniform)
    return _covered(changes, block_size)


# Blocks are passed on as changes of a count: an int8 tensor [B, T + 1] with 1 where a block begins and -1 just past
# its end. Column T takes what falls outside.


def _covered(changes: Tensor, block_size: int) -> Tensor:
    # No more than `block_size` blocks, one from each place, can hide the same frame.
    dtype = torch.int8 if block_size <= torch.iinfo(torch.int8).max else torch.int32
    return changes[:, :-1].cumsum(1, dtype=dtype) > 0


def _blocks(
    window: Window,
    max_time: int,
    mask_prob: float,
    block_size: int,
    allow_overlap: bool,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """The changes, and for each utterance a random number that they do not depend on, `[B, 1]`."""
    draws = max_time + 1 if allow_overlap else _most_places(max_time, mask_prob, block_size) + 2
    uniform = _uniform((window.width.shape[0], draws), window.width.device, generator)
    sample = _overlapping_blocks if allow_overlap else _separate_blocks
    return sample(window, max_time, mask_prob, block_size, uniform), uniform[:, -1:]


def _overlapping_blocks(window: Window, max_time: int, mask_prob: float, block_size: int, uniform: Tensor) -> Tensor:
    """`uniform` `[B, T + 1]` decides for each frame whether a block begins there; at column T none does."""
    frame = torch.arange(max_time + 1, device=uniform.device)
    begins = uniform < mask_prob
    begins &= frame <= window.end() - block_size
    if window.start is not None:
        begins &= frame >= window.start
    begins = begins.view(torch.int8)
    changes = begins.clone()
    changes[:, block_size:].sub_(begins[:, : max(0, max_time + 1 - block_size)])
    return changes


def _most_places(max_time: int, mask_prob: float, block_size: int) -> int:
    """A bound on the places that separate blocks can choose from, in a window of any width.

    Blocks of full size have at most `T // block_size - 1` places. Shrunken ones have at most twice their number `b`:
    `width // (width // (b + 1)) <= 2 * b + 1`, as the remainder of the inner division is at most `b`; and where that
    division gives 0, blocks are one frame long and have `width - 1 < b` places.
    """
    most_blocks = math.ceil(max_time * mask_prob / block_size) + 1
    return min(max_time, max(max_time // block_size - 1, 2 * most_blocks))


def _separate_blocks(window: Window, max_time: int, mask_prob: float, block_size: int, uniform: Tensor) -> Tensor:
    """`uniform` `[B, places + 2]` orders the places on the grid and shifts it; the last column is not used."""
    blocks = torch.ceil(window.width * mask_prob / block_size).long()
    size = (window.width // (blocks + 1)).clamp(1, block_size)
    places = window.width // size - 1
    # float32 may have rounded `blocks` up beyond what the longest possible window needs.
    blocks = torch.minimum(blocks, places).clamp_max(math.ceil(max_time * mask_prob / block_size))

    column = torch.arange(uniform.shape[1] - 1, device=uniform.device)
    # Sorting what is not a place to the end leaves a random permutation of the places in front, and the places that
    # its values below `blocks` stand at are a random choice of that many.
    order = uniform[:, :-2].masked_fill(column[:-1] >= places, 2.0).argsort(dim=1)
    chosen = (order < blocks).view(torch.int8)

    offset = _below(size, uniform[:, -2:-1])
    if window.start is not None:
        offset += window.start
    edges = (offset + size * column).clamp_max(max_time)
    changes = torch.zeros(uniform.shape[0], max_time + 1, dtype=torch.int8, device=uniform.device)
    changes.scatter_(1, edges[:, :-1], chosen)
    return changes.scatter_add_(1, edges[:, 1:], -chosen)


def _add_single_blocks(
    changes: Tensor, window: Window, needed: Tensor, max_mask_ratio: float, uniform: Tensor
) -> None:
    """Add one block to `changes` in each window that `needed`, bool `[B, 1]`, is True for; `uniform` places it."""
    # In float64, as Python computes it: float32 puts some products, such as 0.58 * 50, past a whole number. A share
    # just short of 1 leaves one frame visible.
    size = (window.width.double() * min(max_mask_ratio, 1 - 1e-9)).long()
    size = torch.maximum(size, needed)
    start = _below(window.width - size + 1, uniform)
    if window.start is not None:
        start += window.start
    needed = needed.view(torch.int8)
    changes.scatter_add_(1, start, needed)
    changes.scatter_add_(1, start + size, -needed)


def _uniform(shape: tuple, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """float32 in [0, 1), drawn where the generator lives."""
    if generator is None:
        return torch.rand(shape, dtype=torch.float32, device=device)
    return torch.rand(shape, dtype=torch.float32, device=generator.device, generator=generator).to(device)


def _below(count: Tensor, uniform: Tensor) -> Tensor:
    """The whole numbers in `[0, count)`, int64, that `uniform`, float32 in [0, 1), stands for.

    Such a float32 is at most `1 - 2**-24`, so its product with a count below `2**24` never rounds up to the count.
    """
    return (uniform * count).long()


# ------------------------------------------------------------------------------------------------------------ opening


def encoder_frames(mask: Tensor, subsampling_factor: int, fill: bool) -> Tensor:
    """The mask by encoder frames, bool `[B, G, subsampling_factor]`; the last of them is completed with `fill`."""
    mask = _completed(mask, subsampling_factor, fill)
    return mask.unflatten(1, (mask.shape[1] // subsampling_factor, subsampling_factor))


def _completed(mask: Tensor, subsampling_factor: int, fill: bool) -> Tensor:
    missing = -mask.shape[1] % subsampling_factor
    return F.pad(mask, (0, missing), value=fill) if missing else mask


# The mask of an encoder frame of 1, 2, 4 or 8 frames is one machine word: its type, and its value where all are
# masked. Comparing and writing words is several times faster on a CPU than going over so short a dimension.
_WORDS = {
    1: (torch.uint8, 0x01),
    2: (torch.int16, 0x0101),
    4: (torch.int32, 0x01010101),
    8: (torch.int64, 0x0101010101010101),
}


def _all_masked(mask: Tensor, subsampling_factor: int) -> Tensor:
    """Which encoder frames have every frame masked; bool `[B, T]`, with a complete last one, to `[B, G]`."""
    if subsampling_factor not in _WORDS or mask.shape[1] == 0:
        return encoder_frames(mask, subsampling_factor, True).all(dim=2)
    dtype, masked = _WORDS[subsampling_factor]
    return mask.contiguous().view(dtype) == masked


def blank_frames(mask: Tensor, lengths: Tensor, subsampling_factor: int) -> Tensor:
    """Which encoder frames show nothing: each of their frames is masked, or lies past the length.

    The last encoder frame of an utterance may be cut short by the length. It counts by the frames that it has; a loss
    that takes, say, 7 masked frames of 8 for a target finds it among these. Encoder frames past the length are
    blank.

    Args:
        mask: bool `[B, T]`, clear at and past `lengths`.
        lengths: `[B]`, in frames.

    Returns:
        bool `[B, G]`.
    """
    past = torch.arange(mask.shape[1], device=mask.device) >= lengths.unsqueeze(1)
    return _all_masked(_completed(mask | past, subsampling_factor, True), subsampling_factor)


def steps_from_visible(blank: Tensor, reach: int) -> Tensor:
    """How many encoder frames back the nearest one is that shows something; 0 where it is the frame itself.

    Args:
        blank: bool `[B, G]`.
        reach: a visible frame is taken to stand `reach + 1` before the first one, so that a run of blank frames at the
            start is out of reach from its first frame on.

    Returns:
        int32 `[B, G]`.
    """
    index = torch.arange(blank.shape[1], dtype=torch.int32, device=blank.device)
    return index - torch.where(blank, -(reach + 1), index).cummax(dim=1).values


def reach_within(left: int, groups: int) -> int:
    """`left` as a number of encoder frames that a sequence of `groups` of them can have, also where it is -1."""
    return groups if left == UNLIMITED else min(left, groups)


def frames_to_open(mask: Tensor, lengths: Tensor, left: int, subsampling_factor: int) -> Tensor:
    """The fewest encoder frames to unmask so that every wholly masked one sees a visible one to its left.

    "Sees" is said of one attention layer: among the `left` encoder frames before it, at least one is not wholly
    masked. So a run of wholly masked frames is opened at every `(left + 1)`-th of them, and a run at the start of the
    utterance at its first frame too. With `left = 0` every wholly masked frame is opened.

    Args:
        mask: bool `[B, T]`, clear at and past `lengths`.
        lengths: `[B]`, in frames.
        left: left context in encoder frames; -1 for no limit.

    Returns:
        bool `[B, G]`. What it says of encoder frames past the length has no meaning.
    """
    blank = blank_frames(mask, lengths, subsampling_factor)
    reach = reach_within(left, blank.shape[1])
    # Only in blank frames, where `blank` is 1, a remainder of 0 is less.
    return steps_from_visible(blank, reach).remainder_(reach + 1) < blank


def unmask(mask: Tensor, opened: Tensor, subsampling_factor: int) -> Tensor:
    """Clear the mask in the encoder frames `opened`, bool `[B, G]`; returns a new mask, bool `[B, T]`."""
    if subsampling_factor in _WORDS and mask.shape[1] > 0:
        words = _completed(mask, subsampling_factor, False).contiguous().view(_WORDS[subsampling_factor][0])
        cleared = words.masked_fill(opened, 0).view(torch.bool)
    else:
        frames = encoder_frames(mask, subsampling_factor, False)
        cleared = frames.masked_fill(opened.unsqueeze(2), False).flatten(1)
    return cleared[:, : mask.shape[1]]
