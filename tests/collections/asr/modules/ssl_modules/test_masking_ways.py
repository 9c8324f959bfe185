"""Every way to mask keeps blocks where it says, from one recipe."""

import mask_reference as reference
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_cases import batches, factors, generator, lefts, properties, seeds, windows_of

from nemo.collections.asr.modules.ssl_modules.block_sampling import sample_blocks
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.mask_windows import whole_utterance
from nemo.collections.asr.modules.ssl_modules.masking_ways import CAUSAL_WINDOWS, MASKING_WAYS, sample_mask

recipes = st.builds(MaskRecipe, st.floats(0, 1, width=16), st.integers(1, 30), st.booleans())
current_frames = st.one_of(st.none(), st.integers(0, 100))


@properties
@given(recipes, batches, lefts, factors, seeds, current_frames, st.sampled_from([*MASKING_WAYS]))
def test_masked_frames_lie_in_the_window_of_their_way(recipe, batch, left, factor, seed, current, way):
    time, lengths = batch
    sample = sample_mask(
        recipe,
        way,
        torch.tensor(lengths),
        time,
        left=left,
        subsampling_factor=factor,
        current_frame=current,
        generator=generator(seed),
    )
    assert sample.mask.shape == (len(lengths), time)
    width = left if left == -1 or way == "literal" else left * factor
    for row, length, (start, frames) in zip(
        sample.mask.tolist(), lengths, windows_of(sample.window, len(lengths)), strict=True
    ):
        assert not any(row[:start]) and not any(row[start + frames :])
        if way == "none":
            assert (start, frames) == (0, length)
        elif way == "sliding" and left != 0:
            assert (start, frames) == reference.tail_window(length, -1, current)
        elif way == "random" and current is None:
            assert frames == reference.tail_window(length, width)[1] and start + frames <= length
        else:
            assert (start, frames) == reference.tail_window(length, width, current)


@properties
@given(recipes, batches, lefts, factors, seeds)
def test_sliding_is_the_unlimited_tail_with_its_blind_frames_opened(recipe, batch, left, factor, seed):
    time, lengths = batch
    lengths, context = torch.tensor(lengths), {"subsampling_factor": factor}
    limit = 0 if left == 0 else -1
    before = sample_mask(recipe, "tail", lengths, time, left=limit, **context, generator=generator(seed))
    after = sample_mask(recipe, "sliding", lengths, time, left=left, **context, generator=generator(seed))
    assert before.opened is None
    for row, opened, open_row, length in zip(before.mask, after.opened, after.mask, lengths.tolist(), strict=True):
        indices = reference.opened(reference.wholly_masked(row.tolist(), length, factor), left)
        assert opened[: -(-length // factor)].nonzero().flatten().tolist() == indices
        expected = row.tolist()
        for index in indices:
            for frame in range(index * factor, min((index + 1) * factor, time)):
                expected[frame] = False
        assert open_row.tolist() == expected


def test_none_is_the_sampling_of_blocks_over_the_whole_utterance():
    recipe, lengths = MaskRecipe(mask_prob=0.3, block_size=7), torch.tensor([60, 33])
    sample = sample_mask(recipe, "none", lengths, 60, left=0, generator=generator(1))
    assert torch.equal(sample.mask, sample_blocks(recipe, whole_utterance(lengths), 60, generator=generator(1)))
    assert sample.mask.any() and sample.opened is None


def test_literal_takes_the_number_of_encoder_frames_for_feature_frames():
    recipe, lengths = MaskRecipe(mask_prob=1.0, block_size=2, allow_overlap=True), torch.tensor([60])
    counts = {
        way: int(sample_mask(recipe, way, lengths, 60, left=5, subsampling_factor=8).mask.sum())
        for way in ("literal", "tail")
    }
    assert counts == {"literal": 5, "tail": 40}


def test_settings_select_the_way_and_names_are_keys():
    assert [way.name for way in MASKING_WAYS.values()] == list(MASKING_WAYS)
    assert CAUSAL_WINDOWS == ("tail", "random", "sliding")
    assert {name: way.settings() for name, way in MASKING_WAYS.items()} == {
        "none": {"causal": False},
        "literal": {"causal": True, "causal_window": "tail", "subsampling_factor": 1},
        "tail": {"causal": True, "causal_window": "tail"},
        "random": {"causal": True, "causal_window": "random"},
        "sliding": {"causal": True, "causal_window": "sliding"},
    }


def test_an_unknown_way_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="way must be one of 'none', 'literal', .*; got 'head'"):
        sample_mask(MaskRecipe(), "head", torch.tensor([60]), 60, left=4)
