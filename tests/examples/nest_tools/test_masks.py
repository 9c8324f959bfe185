"""Masks of every way, sampled and counted as a model's recipe says."""

import pytest
import torch
from nest_tools.masks import MaskSettings

from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS


def test_every_way_of_masking_has_a_name_of_its_own():
    assert [way.name for way in MASKING_WAYS.values()] == ["none", "literal", "tail", "random", "sliding"]


@pytest.fixture
def settings() -> MaskSettings:
    options = dict(feat_in=1, mask_prob=0.06, block_size=16, allow_overlap=True)
    return MaskSettings.of(RandomBlockMasking(**options, causal=True, causal_window="tail"), 8, 0.8)


def test_settings_are_those_of_the_mask_processor(settings):
    assert (settings.recipe.mask_prob, settings.recipe.block_size, settings.recipe.allow_overlap) == (0.06, 16, True)
    assert (settings.frames_per_encoder_frame, settings.target_threshold) == (8, 0.8)
    assert MaskSettings.of(RandomBlockMasking(feat_in=1), 8, 0.8).own_way == "none"


def test_the_same_generator_gives_the_same_masks_and_padding_is_never_masked(settings):
    lengths = torch.tensor([400, 150])
    for way in MASKING_WAYS.values():
        first, again = (settings.sample(way, lengths, 6, torch.Generator().manual_seed(1)).mask for _ in range(2))
        assert torch.equal(first, again) and first.shape == (2, 400) and not first[1, 150:].any(), way.name


def test_blind_frames_are_those_that_the_audit_counts(settings):
    lengths = torch.tensor([800, 500])
    sampled = settings.sample(MASKING_WAYS["none"], lengths, 2, torch.Generator().manual_seed(0))
    blind = settings.blind(sampled.mask, lengths, 2)
    assert blind.shape == (2, 100) and blind.any()
    assert blind.sum(dim=1).tolist() == settings.audit(sampled, lengths, 2).blind_targets.tolist()
    assert not (blind & ~settings.wholly_masked(sampled.mask)).any()


def test_an_encoder_frame_is_wholly_masked_where_all_its_frames_are(settings):
    mask = torch.zeros(1, 24, dtype=torch.bool)
    mask[0, 1:16] = True
    assert settings.wholly_masked(mask).tolist() == [[False, True, False]]
