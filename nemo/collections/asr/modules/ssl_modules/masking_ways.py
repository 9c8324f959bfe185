"""The ways to choose where masks may lie under a limited left context, and a mask sampled in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.blind_runs import frames_to_open, unmask
from nemo.collections.asr.modules.ssl_modules.block_sampling import sample_blocks, sample_causal_blocks
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.mask_windows import (
    UNLIMITED,
    Window,
    random_window,
    tail_window,
    whole_utterance,
    window_width,
)
from nemo.collections.asr.parts.utils.checks import check_choice

__all__ = ["CAUSAL_WINDOWS", "MASKING_WAYS", "CausalSample", "MaskingWay", "sample_mask"]


@dataclass(frozen=True)
class MaskingWay:
    """Where blocks may lie, for a left context of `left` encoder frames."""

    name: str

    meaning: str
    """One line, for tables and captions."""

    causal_window: str | None
    """As in `RandomBlockMasking`; None for masking that ignores the left context."""

    in_feature_frames: bool = False
    """Whether the number `left` is taken as a number of frames of the masked features."""

    def settings(self) -> dict[str, Any]:
        """The options of `RandomBlockMasking` (`masking` in a config) that mask in this way."""
        if self.causal_window is None:
            return {"causal": False}
        factor = {"subsampling_factor": 1} if self.in_feature_frames else {}
        return {"causal": True, "causal_window": self.causal_window, **factor}


MASKING_WAYS: Mapping[str, MaskingWay] = {
    way.name: way
    for way in (
        MaskingWay("none", "blocks anywhere, as NeMo masks; the left context is ignored", None),
        MaskingWay("literal", "blocks in the last `left` feature frames: `left` is not converted", "tail", True),
        MaskingWay("tail", "blocks in the last `left` encoder frames", "tail"),
        MaskingWay("random", "blocks in `left` encoder frames at a place sampled for each utterance", "random"),
        MaskingWay("sliding", "blocks anywhere, opened where a target would be blind", "sliding"),
    )
}
"""All ways, by name."""

CAUSAL_WINDOWS: tuple[str, ...] = tuple(name for name, way in MASKING_WAYS.items() if way.causal_window == name)
"""What `causal_window` of `RandomBlockMasking` can be: `tail`, `random`, `sliding`."""


class CausalSample(NamedTuple):
    """A sampled mask, and what an audit of it needs to know."""

    mask: Tensor
    """bool `[B, T]`, True where a frame is masked."""

    window: Window
    """The frames of each utterance in which blocks could lie."""

    opened: Tensor | None
    """The encoder frames that `sliding` unmasked, bool `[B, S]`; None for the other ways."""


def sample_mask(
    recipe: MaskRecipe,
    way: str,
    lengths: Tensor,
    max_time: int,
    *,
    left: int,
    subsampling_factor: int = 1,
    current_frame: int | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> CausalSample:
    """Samples a mask as training with this recipe does, on the device of `lengths`.

        >>> recipe = MaskRecipe(mask_prob=0.5, block_size=8)
        >>> sample = sample_mask(recipe, "tail", torch.tensor([100, 60]), 100, left=4, subsampling_factor=8)
        >>> sample.mask.shape, sample.window.start.tolist(), sample.window.width.tolist()
        (torch.Size([2, 100]), [[68], [28]], [[32], [32]])

    Nothing here waits for a device or depends on values for a shape, so it runs under `torch.compile` and in a CUDA
    graph.

    Args:
        recipe: how much to mask.
        way: one of `MASKING_WAYS`.
        lengths: int64 `[B]`, in frames of the mask, from 0 to `max_time`.
        max_time: `T`, the frames of the mask.
        left: left context in encoder frames; -1 for no limit. The way `none` does not read it.
        subsampling_factor: frames of the mask in an encoder frame. The ways `none` and `literal` do not read it.
        current_frame: exclusive end of the window, in frames: an int, an int64 tensor `[B]`, or None for the length.
            With one, `random` masks as `tail`; `none` does not read it.
        generator: where the random numbers come from; torch's own generator if None. A CPU generator gives the same
            mask on every device.

    Raises:
        ValueError: `way` is not in `MASKING_WAYS`. Numbers and tensors are not checked here: `RandomBlockMasking` does
            that.
    """
    chosen = MASKING_WAYS[check_choice("way", way, MASKING_WAYS)]
    if chosen.causal_window is None:
        window = whole_utterance(lengths)
        return CausalSample(sample_blocks(recipe, window, max_time, generator=generator), window, None)

    factor = 1 if chosen.in_feature_frames else subsampling_factor
    window = _causal_window(chosen.causal_window, lengths, left, factor, current_frame, generator)
    mask = sample_causal_blocks(recipe, window, max_time, generator=generator)
    if chosen.causal_window != "sliding":
        return CausalSample(mask, window, None)
    opened = frames_to_open(mask, lengths, left, factor)
    return CausalSample(unmask(mask, opened, factor), window, opened)


def _causal_window(
    causal_window: str,
    lengths: Tensor,
    left: int,
    factor: int,
    current_frame: int | Tensor | None,
    generator: torch.Generator | None,
) -> Window:
    width = window_width(left, factor)
    if causal_window == "random" and current_frame is None:
        return random_window(lengths, width, generator)
    if causal_window == "sliding" and left > 0:
        width = UNLIMITED
    return tail_window(lengths, width, current_frame)
