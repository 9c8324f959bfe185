"""Blocks inside windows, against plain Python that counts frame by frame."""

import mask_reference as reference
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_cases import batches, generator, probs, properties, seeds, widths, windows_of

from nemo.collections.asr.modules.ssl_modules.block_sampling import sample_blocks, sample_causal_blocks
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.mask_windows import random_window, whole_utterance


@properties
@given(batches, widths, probs, st.integers(1, 30), st.booleans(), seeds)
def test_causal_blocks_are_whole_and_inside_their_window(batch, width, prob, block, overlap, seed):
    time, lengths = batch
    window = random_window(torch.tensor(lengths), width, generator(seed + 1))
    mask = sample_causal_blocks(
        MaskRecipe(prob, block, overlap, max_mask_ratio=0.8), window, time, generator=generator(seed)
    )
    assert mask.shape == (len(lengths), time) and mask.dtype == torch.bool
    for row, (start, frames) in zip(mask.tolist(), windows_of(window, len(lengths)), strict=True):
        sizes = [size for _, size in reference.runs(row)]
        assert not any(row[:start]) and not any(row[start + frames :])
        if prob == 0:
            assert not sizes
        elif frames <= block:
            assert sum(sizes) == reference.single_block_size(frames, 0.8) and len(sizes) <= 1
        elif overlap:
            assert all(size >= block for size in sizes)
        else:
            blocks, size = reference.separate_blocks(frames, prob, block, time)
            assert sum(sizes) == blocks * size
            assert all(run % size == 0 for run in sizes)


@properties
@given(batches, probs, st.integers(1, 30), seeds)
def test_separate_blocks_are_as_many_and_as_large_as_the_rule_says(batch, prob, block, seed):
    time, lengths = batch
    window = whole_utterance(torch.tensor(lengths))
    mask = sample_blocks(MaskRecipe(prob, block), window, time, generator=generator(seed))
    for row, length in zip(mask.tolist(), lengths, strict=True):
        blocks, size = reference.separate_blocks(length, prob, block, time)
        assert sum(row) == blocks * size
        assert all(run % size == 0 for _, run in reference.runs(row))


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_overlapping_blocks_begin_nowhere_or_everywhere_at_the_extremes(prob):
    window = whole_utterance(torch.tensor([40, 12, 11, 0]))
    mask = sample_blocks(MaskRecipe(prob, 12, allow_overlap=True), window, 40)
    assert mask.sum(1).tolist() == ([40, 12, 0, 0] if prob else [0, 0, 0, 0])


@pytest.mark.parametrize("block", [127, 128, 300])
def test_a_frame_may_lie_in_as_many_blocks_as_a_block_has_frames(block):
    window = whole_utterance(torch.tensor([1000, 900, block]))
    mask = sample_blocks(MaskRecipe(1.0, block, allow_overlap=True), window, 1000)
    assert mask.sum(1).tolist() == [1000, 900, block]


def test_a_block_longer_than_the_time_axis_costs_no_more():
    window = whole_utterance(torch.tensor([5, 3]))
    for overlap in (False, True):
        mask = sample_causal_blocks(MaskRecipe(1.0, 10**9, overlap), window, 5)
        assert mask.sum(1).tolist() == [4, 2]


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.58, 0.8, 1.0])
def test_the_single_block_has_its_exact_size_in_every_short_window(ratio):
    lengths = torch.arange(0, 101)
    recipe = MaskRecipe(mask_prob=0.01, block_size=100, allow_overlap=True, max_mask_ratio=ratio)
    mask = sample_causal_blocks(recipe, whole_utterance(lengths), 100)
    assert mask.sum(1).tolist() == [reference.single_block_size(n, ratio) for n in range(101)]


def test_the_single_block_stands_at_each_place_equally_often():
    samples = 40_000
    recipe = MaskRecipe(mask_prob=0.5, block_size=16, max_mask_ratio=0.5)
    mask = sample_causal_blocks(recipe, whole_utterance(torch.full((samples,), 10)), 10, generator=generator(0))
    counts = torch.bincount(mask.int().argmax(1), minlength=10)
    assert counts[6:].sum() == 0
    # Six equal cells; 25.7 is exceeded with probability 1e-4 (chi-squared, 5 degrees of freedom).
    assert ((counts[:6] - samples / 6) ** 2 / (samples / 6)).sum() < 25.7


@properties
@given(batches, seeds, st.booleans())
def test_a_generator_decides_the_mask_and_nothing_else_is_touched(batch, seed, overlap):
    time, lengths = batch
    window = whole_utterance(torch.tensor(lengths))
    recipe = MaskRecipe(mask_prob=0.2, block_size=5, allow_overlap=overlap)
    before = torch.get_rng_state()
    first = sample_causal_blocks(recipe, window, time, generator=generator(seed))
    second = sample_causal_blocks(recipe, window, time, generator=generator(seed))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
