"""Block masks over time, as pure functions of tensors.

A mask is a boolean tensor `[B, T]`, True where a frame is masked. A `MaskRecipe` says how much to mask; `sample_mask`
samples a mask in one of the `MASKING_WAYS`, by three steps that can also be used alone:

1. Choose a `Window` for every utterance: `whole_utterance`, `tail_window` or `random_window`.
2. Sample blocks inside the windows: `sample_blocks`, or `sample_causal_blocks`, which also serves windows no longer
   than a block.
3. With `sliding`, open the runs that a limited left context cannot see past: `frames_to_open`, then `unmask`.

Without another word, a frame is a frame of the masked features; there are `T`. Encoder frame `k` covers the frames
`k * subsampling_factor ... (k + 1) * subsampling_factor - 1`; there are `S = ceil(T / subsampling_factor)`.

No function loops over the batch, moves a value to the host or makes a shape from values, so all of them run under
`torch.compile` and in a CUDA graph. A `generator` may live on another device than the lengths: the numbers are sampled
on its device and copied, so that one CPU generator gives the same masks everywhere.

This module gathers the public names of `mask_recipe`, `masking_ways`, `mask_windows`, `block_sampling` and
`blind_runs`.
"""

from nemo.collections.asr.modules.ssl_modules.blind_runs import (
    blank_frames,
    blind_frames,
    encoder_frames,
    frames_to_open,
    left_limit,
    steps_from_visible,
    unmask,
    wholly_masked_frames,
)
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
from nemo.collections.asr.modules.ssl_modules.masking_ways import (
    CAUSAL_WINDOWS,
    MASKING_WAYS,
    CausalSample,
    MaskingWay,
    sample_mask,
)

__all__ = [
    "CAUSAL_WINDOWS",
    "MASKING_WAYS",
    "UNLIMITED",
    "CausalSample",
    "MaskRecipe",
    "MaskingWay",
    "Window",
    "blank_frames",
    "blind_frames",
    "encoder_frames",
    "frames_to_open",
    "left_limit",
    "random_window",
    "sample_blocks",
    "sample_causal_blocks",
    "sample_mask",
    "steps_from_visible",
    "tail_window",
    "unmask",
    "whole_utterance",
    "wholly_masked_frames",
    "window_width",
]
