"""Opening runs of masked frames, against a walk through the frames."""

import itertools

import mask_reference as reference
import pytest
import torch
from hypothesis import given
from mask_cases import factors, generator, lefts, masks, properties

from nemo.collections.asr.modules.ssl_modules.blind_runs import frames_to_open, unmask


@properties
@given(masks(), lefts, factors)
def test_opening_unmasks_what_a_walk_through_the_frames_would(case, left, factor):
    mask, lengths = case
    opened = frames_to_open(mask, lengths, left, factor)
    after = unmask(mask, opened, factor)
    assert after.shape == mask.shape
    for row, row_opened, row_after, length in zip(mask, opened, after, lengths.tolist(), strict=True):
        whole = reference.wholly_masked(row.tolist(), length, factor)
        indices = reference.opened(whole, left)
        assert row_opened[: len(whole)].nonzero().flatten().tolist() == indices
        expected = row.tolist()
        for index in indices:
            expected[index * factor : (index + 1) * factor] = [False] * len(
                expected[index * factor : (index + 1) * factor]
            )
        assert row_after.tolist() == expected


@properties
@given(masks(), lefts, factors)
def test_after_opening_no_wholly_masked_frame_is_blind(case, left, factor):
    mask, lengths = case
    after = unmask(mask, frames_to_open(mask, lengths, left, factor), factor)
    for row, length in zip(after.tolist(), lengths.tolist(), strict=True):
        assert reference.blind(reference.wholly_masked(row, length, factor), left) == []


@pytest.mark.parametrize("left", [1, 2, 3])
def test_no_smaller_set_of_openings_would_do(left):
    frames = 8
    every = torch.tensor(list(itertools.product([False, True], repeat=frames)))
    sight = [not reference.blind(row, left) for row in every.tolist()]
    opened = frames_to_open(every, torch.full((len(every),), frames), left, 1).sum(1)
    for row, count in zip(every, opened.tolist(), strict=True):
        # Row i of `every` is what remains masked: any part of `row` from which no frame is blind.
        fewest = min(
            int((row & ~rest).sum())
            for rest, sees in zip(every, sight, strict=True)
            if sees and not (rest & ~row).any()
        )
        assert count == fewest


@pytest.mark.parametrize("factor", [1, 3, 8])
def test_the_mask_may_lie_in_memory_as_it_likes(factor):
    mask = torch.rand(9, 50, generator=generator(0)) < 0.9
    lengths = torch.full((9,), 50)
    expected = frames_to_open(mask, lengths, 2, factor)
    for same in (mask.t().contiguous().t(), torch.cat([mask, mask], 1)[:, 50:]):
        opened = frames_to_open(same, lengths, 2, factor)
        assert torch.equal(opened, expected)
        unmasked = unmask(same, opened, factor)
        assert torch.equal(unmasked, unmask(mask, expected, factor))


def test_the_last_frame_of_an_utterance_counts_by_the_frames_that_it_has():
    # 23 frames of 8: the third encoder frame has seven, which the loss takes for a target (7 / 8 > 0.8).
    mask = torch.ones(1, 32, dtype=torch.bool)
    mask[:, 23:] = False
    opened = frames_to_open(mask, torch.tensor([23]), 1, 8)
    assert opened[0, :3].tolist() == [True, False, True]
