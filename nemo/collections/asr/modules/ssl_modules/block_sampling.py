"""Blocks of masked frames, sampled inside windows.

Blocks are held as changes of a count until the end: an int8 tensor `[B, T + 1]` with 1 where a block begins and -1
just past its end, whose running sum says how many blocks cover a frame. Column `T` takes what falls outside.
"""

import math

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.mask_arguments import readable
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.mask_windows import Window
from nemo.collections.asr.modules.ssl_modules.random_numbers import uniform, whole_numbers_below

__all__ = ["sample_blocks", "sample_causal_blocks"]


def sample_blocks(
    recipe: MaskRecipe, window: Window, max_time: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Samples blocks inside each window, as NeMo's `RandomBlockMasking` does on sequences of the windows' widths.

    With `allow_overlap`, each frame of the window begins a block with probability `mask_prob`, if the block ends
    inside the window; a window shorter than a block stays clear. Without it, about `width * mask_prob` frames are
    masked by blocks on distinct places of a randomly shifted grid; a window too short for them gets smaller blocks.

    Args:
        recipe: all of it but `max_mask_ratio`.
        window: where blocks may lie, inside `[0, max_time)`.
        max_time: `T`, the frames of the mask.
        generator: where the random numbers come from; torch's own generator if None.

    Returns:
        the mask, bool `[B, T]`.
    """
    changes, _ = _sample_changes(recipe, window, max_time, generator)
    return _covered(changes, recipe.block_size)


def sample_causal_blocks(
    recipe: MaskRecipe, window: Window, max_time: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """As `sample_blocks`, with one shorter block in each window that is no longer than a block.

    A window of `2 <= n <= block_size` frames gets one block of `max(1, min(n - 1, floor(max_mask_ratio * n)))` frames
    at a uniformly sampled place. Where `mask_prob` is 0, nothing is masked in any window.

        >>> from nemo.collections.asr.modules.ssl_modules.mask_windows import whole_utterance
        >>> window = whole_utterance(torch.tensor([10, 5, 1]))
        >>> sample_causal_blocks(MaskRecipe(block_size=48), window, 10).sum(dim=1).tolist()
        [8, 4, 0]

    Returns:
        the mask, bool `[B, T]`.
    """
    wide = window.width > recipe.block_size
    # In most batches all windows are wide. On a CPU, where looking costs nothing, the rest is then skipped.
    if readable(wide) and wide.all():
        return sample_blocks(recipe, window, max_time, generator=generator)
    wide_window = Window(window.start, window.width * wide)
    changes, numbers = _sample_changes(recipe, wide_window, max_time, generator)
    if recipe.mask_prob > 0:
        _add_single_blocks(changes, window, (window.width > 1) ^ wide, recipe.max_mask_ratio, numbers)
    return _covered(changes, recipe.block_size)


def _covered(changes: Tensor, block_size: int) -> Tensor:
    # At most `block_size` blocks, one from each place, cover the same frame.
    dtype = torch.int8 if block_size <= torch.iinfo(torch.int8).max else torch.int32
    return changes[:, :-1].cumsum(1, dtype=dtype) > 0


def _sample_changes(
    recipe: MaskRecipe, window: Window, max_time: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """The changes, and for each utterance a random number that they do not depend on, `[B, 1]`."""
    columns = max_time + 1 if recipe.allow_overlap else _most_places(recipe, max_time) + 2
    numbers = uniform((window.width.shape[0], columns), window.width.device, generator)
    place_blocks = _overlapping_blocks if recipe.allow_overlap else _separate_blocks
    return place_blocks(recipe, window, max_time, numbers), numbers[:, -1:]


def _overlapping_blocks(recipe: MaskRecipe, window: Window, max_time: int, numbers: Tensor) -> Tensor:
    """`numbers` `[B, T + 1]` decides for each frame whether a block begins there; none begins at column `T`."""
    block_size = recipe.block_size
    frame = torch.arange(max_time + 1, device=numbers.device)
    begins = numbers < recipe.mask_prob
    begins &= frame <= window.end() - block_size
    if window.start is not None:
        begins &= frame >= window.start
    begins = begins.view(torch.int8)
    changes = begins.clone()
    changes[:, block_size:].sub_(begins[:, : max(0, max_time + 1 - block_size)])
    return changes


def _most_places(recipe: MaskRecipe, max_time: int) -> int:
    """A bound on the places that separate blocks can choose from, in a window of any width.

    Blocks of full size have at most `T // block_size - 1` places. Shrunken ones have at most twice their number `b`:
    `width // (width // (b + 1)) <= 2 * b + 1`, as the remainder of the inner division is at most `b`; and where that
    division gives 0, blocks are one frame long and have `width - 1 < b` places.
    """
    return min(max_time, max(max_time // recipe.block_size - 1, 2 * (_most_blocks(recipe, max_time) + 1)))


def _most_blocks(recipe: MaskRecipe, max_time: int) -> int:
    """Separate blocks in a window of all `T` frames."""
    return math.ceil(max_time * recipe.mask_prob / recipe.block_size)


def _separate_blocks(recipe: MaskRecipe, window: Window, max_time: int, numbers: Tensor) -> Tensor:
    """`numbers` `[B, places + 2]` orders the places on the grid and shifts it; the last column is not used."""
    blocks = torch.ceil(window.width * recipe.mask_prob / recipe.block_size).long()
    size = (window.width // (blocks + 1)).clamp(1, recipe.block_size)
    places = window.width // size - 1
    # In float32, `blocks` may be rounded up to more than the longest possible window needs.
    blocks = torch.minimum(blocks, places).clamp_max(_most_blocks(recipe, max_time))

    column = torch.arange(numbers.shape[1] - 1, device=numbers.device)
    # Sorting everything that is not a place to the end leaves a random permutation of the places in front. Where its
    # values are below `blocks`, a block is placed: a random choice of that many places.
    order = numbers[:, :-2].masked_fill(column[:-1] >= places, 2.0).argsort(dim=1)
    chosen = (order < blocks).view(torch.int8)

    offset = whole_numbers_below(size, numbers[:, -2:-1])
    if window.start is not None:
        offset += window.start
    edges = (offset + size * column).clamp_max(max_time)
    changes = torch.zeros(numbers.shape[0], max_time + 1, dtype=torch.int8, device=numbers.device)
    changes.scatter_(1, edges[:, :-1], chosen)
    return changes.scatter_add_(1, edges[:, 1:], -chosen)


def _add_single_blocks(
    changes: Tensor, window: Window, needed: Tensor, max_mask_ratio: float, numbers: Tensor
) -> None:
    """Adds one block to `changes` in each window where `needed`, bool `[B, 1]`, is True; `numbers` places it."""
    # In float64, as Python computes it: float32 rounds some products, such as 0.58 * 50, past a whole number. A share
    # just below 1 leaves one frame visible.
    size = (window.width.double() * min(max_mask_ratio, 1 - 1e-9)).long()
    size = torch.maximum(size, needed)
    start = whole_numbers_below(window.width - size + 1, numbers)
    if window.start is not None:
        start += window.start
    needed = needed.view(torch.int8)
    changes.scatter_add_(1, start, needed)
    changes.scatter_add_(1, start + size, -needed)
