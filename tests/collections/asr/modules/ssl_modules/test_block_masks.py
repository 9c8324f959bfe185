"""The names of the mask functions in one place, and the three steps of a mask without a value on the host."""

import pytest
import torch

from nemo.collections.asr.modules.ssl_modules import (
    blind_runs,
    block_masks,
    block_sampling,
    mask_recipe,
    mask_windows,
    masking_ways,
)
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe


def test_every_public_name_of_the_gathered_modules_is_here():
    gathered = (blind_runs, block_sampling, mask_recipe, mask_windows, masking_ways)
    assert sorted(block_masks.__all__) == sorted(name for module in gathered for name in module.__all__)
    for module in gathered:
        assert all(getattr(block_masks, name) is getattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("overlap", [False, True])
def test_no_step_needs_a_value_on_the_host(overlap):
    """Tensors of the device "meta" have no values: an operation that needs one fails."""
    lengths = torch.zeros(3, dtype=torch.long, device="meta")
    recipe = MaskRecipe(mask_prob=0.1, block_size=7, allow_overlap=overlap)
    for window in (block_masks.tail_window(lengths, 40), block_masks.random_window(lengths, 40)):
        mask = block_masks.sample_causal_blocks(recipe, window, 100)
        opened = block_masks.frames_to_open(mask, lengths, 5, 8)
        audit = audit_masks(block_masks.unmask(mask, opened, 8), lengths, 5, 8, window=window, opened=opened)
        assert audit.opened_runs.shape == (3,) and audit.opened_runs.device.type == "meta"
