"""Windows, blocks, opening and the audit, against plain Python that goes frame by frame."""

import itertools

import mask_reference as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo.collections.asr.modules.ssl_modules import block_masks
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks

batches = st.integers(0, 90).flatmap(
    lambda time: st.tuples(st.just(time), st.lists(st.integers(0, time), min_size=1, max_size=6))
)
widths = st.one_of(st.just(-1), st.integers(0, 100))
factors = st.integers(1, 9)
lefts = st.one_of(st.just(-1), st.integers(0, 12))
probs = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
seeds = st.integers(0, 2**31)

properties = settings(deadline=None, max_examples=150, derandomize=True)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def windows_of(window, batch):
    """First frame and width of each utterance's window, as Python numbers."""
    start = torch.zeros_like(window.width) if window.start is None else window.start
    assert start.shape == window.width.shape == (batch, 1)
    return list(zip(start.flatten().tolist(), window.width.flatten().tolist(), strict=True))


@st.composite
def masks(draw):
    """A mask with long runs, and the lengths past which it is clear."""
    time, lengths = draw(batches)
    rows = torch.zeros(len(lengths), time, dtype=torch.bool)
    for row, length in zip(rows, lengths, strict=True):
        for _ in range(draw(st.integers(0, 4))):
            begin = draw(st.integers(0, time))
            row[begin : min(length, begin + draw(st.integers(0, 60)))] = True
    return rows, torch.tensor(lengths)


class TestWindows:
    @properties
    @given(batches, widths, st.one_of(st.none(), st.integers(0, 100)))
    def test_tail_window_is_the_last_frames_before_the_current_one(self, batch, width, current):
        _, lengths = batch
        window = block_masks.tail_window(torch.tensor(lengths), width, current)
        assert windows_of(window, len(lengths)) == [reference.tail_window(n, width, current) for n in lengths]

    @properties
    @given(batches, widths, st.data())
    def test_tail_window_takes_a_current_frame_per_utterance(self, batch, width, data):
        _, lengths = batch
        current = [data.draw(st.integers(0, 100)) for _ in lengths]
        window = block_masks.tail_window(torch.tensor(lengths), width, torch.tensor(current))
        expected = [reference.tail_window(n, width, at) for n, at in zip(lengths, current, strict=True)]
        assert windows_of(window, len(lengths)) == expected

    @properties
    @given(batches, widths, seeds)
    def test_random_window_is_full_or_the_whole_utterance(self, batch, width, seed):
        _, lengths = batch
        window = block_masks.random_window(torch.tensor(lengths), width, generator(seed))
        for length, (start, frames) in zip(lengths, windows_of(window, len(lengths)), strict=True):
            assert frames == (length if width == -1 else min(width, length))
            assert 0 <= start <= length - frames

    def test_random_window_ends_at_each_possible_frame_equally_often(self):
        draws, length, width = 40_000, 30, 21
        window = block_masks.random_window(torch.full((draws,), length), width, generator(0))
        counts = torch.bincount(window.end().flatten(), minlength=length + 1)
        assert counts[:width].sum() == 0
        # Ten equal cells; 33.7 is exceeded with probability 1e-4 (chi-squared, 9 degrees of freedom).
        expected = draws / (length - width + 1)
        assert ((counts[width:] - expected) ** 2 / expected).sum() < 33.7

    def test_window_width_counts_encoder_frames_in_frames(self):
        assert [block_masks.window_width(left, 8) for left in (-1, 0, 1, 80)] == [-1, 0, 8, 640]


class TestBlocks:
    @properties
    @given(batches, widths, probs, st.integers(1, 30), st.booleans(), seeds)
    def test_causal_blocks_are_whole_and_inside_their_window(self, batch, width, prob, block, overlap, seed):
        time, lengths = batch
        window = block_masks.random_window(torch.tensor(lengths), width, generator(seed + 1))
        mask = block_masks.sample_causal_blocks(
            window,
            time,
            mask_prob=prob,
            block_size=block,
            allow_overlap=overlap,
            max_mask_ratio=0.8,
            generator=generator(seed),
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
    def test_separate_blocks_are_as_many_and_as_large_as_the_rule_says(self, batch, prob, block, seed):
        time, lengths = batch
        window = block_masks.whole_utterance(torch.tensor(lengths))
        mask = block_masks.sample_blocks(
            window, time, mask_prob=prob, block_size=block, allow_overlap=False, generator=generator(seed)
        )
        for row, length in zip(mask.tolist(), lengths, strict=True):
            blocks, size = reference.separate_blocks(length, prob, block, time)
            assert sum(row) == blocks * size
            assert all(run % size == 0 for _, run in reference.runs(row))

    @pytest.mark.parametrize("prob", [0.0, 1.0])
    def test_overlapping_blocks_begin_nowhere_or_everywhere_at_the_extremes(self, prob):
        window = block_masks.whole_utterance(torch.tensor([40, 12, 11, 0]))
        mask = block_masks.sample_blocks(window, 40, mask_prob=prob, block_size=12, allow_overlap=True)
        assert mask.sum(1).tolist() == ([40, 12, 0, 0] if prob else [0, 0, 0, 0])

    @pytest.mark.parametrize("block", [127, 128, 300])
    def test_a_frame_may_lie_in_as_many_blocks_as_a_block_has_frames(self, block):
        window = block_masks.whole_utterance(torch.tensor([1000, 900, block]))
        mask = block_masks.sample_blocks(window, 1000, mask_prob=1.0, block_size=block, allow_overlap=True)
        assert mask.sum(1).tolist() == [1000, 900, block]

    def test_a_block_longer_than_the_time_axis_costs_no_more(self):
        window = block_masks.whole_utterance(torch.tensor([5, 3]))
        for overlap in (False, True):
            mask = block_masks.sample_causal_blocks(
                window, 5, mask_prob=1.0, block_size=10**9, allow_overlap=overlap, max_mask_ratio=0.8
            )
            assert mask.sum(1).tolist() == [4, 2]

    @pytest.mark.parametrize("ratio", [0.0, 0.3, 0.58, 0.8, 1.0])
    def test_the_single_block_has_its_exact_size_in_every_short_window(self, ratio):
        lengths = torch.arange(0, 101)
        mask = block_masks.sample_causal_blocks(
            block_masks.whole_utterance(lengths),
            100,
            mask_prob=0.01,
            block_size=100,
            allow_overlap=True,
            max_mask_ratio=ratio,
        )
        assert mask.sum(1).tolist() == [reference.single_block_size(n, ratio) for n in range(101)]

    def test_the_single_block_stands_at_each_place_equally_often(self):
        draws = 40_000
        mask = block_masks.sample_causal_blocks(
            block_masks.whole_utterance(torch.full((draws,), 10)),
            10,
            mask_prob=0.5,
            block_size=16,
            allow_overlap=False,
            max_mask_ratio=0.5,
            generator=generator(0),
        )
        counts = torch.bincount(mask.int().argmax(1), minlength=10)
        assert counts[6:].sum() == 0
        # Six equal cells; 25.7 is exceeded with probability 1e-4 (chi-squared, 5 degrees of freedom).
        assert ((counts[:6] - draws / 6) ** 2 / (draws / 6)).sum() < 25.7

    @properties
    @given(batches, seeds, st.booleans())
    def test_a_generator_decides_the_mask_and_nothing_else_is_touched(self, batch, seed, overlap):
        time, lengths = batch
        window = block_masks.whole_utterance(torch.tensor(lengths))
        settings = dict(mask_prob=0.2, block_size=5, allow_overlap=overlap, max_mask_ratio=0.8)
        before = torch.get_rng_state()
        first = block_masks.sample_causal_blocks(window, time, **settings, generator=generator(seed))
        second = block_masks.sample_causal_blocks(window, time, **settings, generator=generator(seed))
        assert torch.equal(first, second)
        assert torch.equal(before, torch.get_rng_state())


class TestOpening:
    @properties
    @given(masks(), lefts, factors)
    def test_opening_unmasks_what_a_walk_through_the_frames_would(self, case, left, factor):
        mask, lengths = case
        opened = block_masks.frames_to_open(mask, lengths, left, factor)
        after = block_masks.unmask(mask, opened, factor)
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
    def test_after_opening_no_wholly_masked_frame_is_blind(self, case, left, factor):
        mask, lengths = case
        after = block_masks.unmask(mask, block_masks.frames_to_open(mask, lengths, left, factor), factor)
        for row, length in zip(after.tolist(), lengths.tolist(), strict=True):
            assert reference.blind(reference.wholly_masked(row, length, factor), left) == []

    @pytest.mark.parametrize("left", [1, 2, 3])
    def test_no_smaller_set_of_openings_would_do(self, left):
        frames = 8
        every = torch.tensor(list(itertools.product([False, True], repeat=frames)))
        sight = [not reference.blind(row, left) for row in every.tolist()]
        opened = block_masks.frames_to_open(every, torch.full((len(every),), frames), left, 1).sum(1)
        for row, count in zip(every, opened.tolist(), strict=True):
            # Row i of `every` is what remains masked: any part of `row` from which no frame is blind.
            fewest = min(
                int((row & ~rest).sum())
                for rest, sees in zip(every, sight, strict=True)
                if sees and not (rest & ~row).any()
            )
            assert count == fewest

    @pytest.mark.parametrize("factor", [1, 3, 8])
    def test_the_mask_may_lie_in_memory_as_it_likes(self, factor):
        mask = torch.rand(9, 50, generator=generator(0)) < 0.9
        lengths = torch.full((9,), 50)
        expected = block_masks.frames_to_open(mask, lengths, 2, factor)
        for same in (mask.t().contiguous().t(), torch.cat([mask, mask], 1)[:, 50:]):
            opened = block_masks.frames_to_open(same, lengths, 2, factor)
            assert torch.equal(opened, expected)
            unmasked = block_masks.unmask(same, opened, factor)
            assert torch.equal(unmasked, block_masks.unmask(mask, expected, factor))

    def test_the_last_frame_of_an_utterance_counts_by_the_frames_that_it_has(self):
        # 23 frames of 8: the third encoder frame has seven, which the loss takes for a target (7 / 8 > 0.8).
        mask = torch.ones(1, 32, dtype=torch.bool)
        mask[:, 23:] = False
        opened = block_masks.frames_to_open(mask, torch.tensor([23]), 1, 8)
        assert opened[0, :3].tolist() == [True, False, True]


class TestAudit:
    @properties
    @given(masks(), lefts, factors, st.floats(0, 0.99))
    def test_counts_are_those_of_a_walk_through_the_frames(self, case, left, factor, threshold):
        mask, lengths = case
        audit = audit_masks(mask, lengths, left, factor, target_threshold=threshold)
        for index, (row, length) in enumerate(zip(mask.tolist(), lengths.tolist(), strict=True)):
            whole = reference.wholly_masked(row, length, factor)
            assert audit.masked_fraction[index].item() == pytest.approx(sum(row) / max(1, length))
            assert audit.blind_targets[index] == len(reference.blind(whole, left))
            assert audit.targets[index] == reference.targets(row, factor, threshold)
            assert audit.opened_runs[index] == 0 and audit.frames_outside[index] == 0

    @properties
    @given(masks(), lefts, factors)
    def test_opened_runs_are_the_runs_with_an_opening(self, case, left, factor):
        mask, lengths = case
        opened = block_masks.frames_to_open(mask, lengths, left, factor)
        after = block_masks.unmask(mask, opened, factor)
        audit = audit_masks(after, lengths, left, factor, opened=opened)
        for index, (row, length) in enumerate(zip(mask.tolist(), lengths.tolist(), strict=True)):
            whole = reference.wholly_masked(row, length, factor)
            indices = set(reference.opened(whole, left))
            with_opening = [1 for begin, size in reference.runs(whole) if indices & set(range(begin, begin + size))]
            assert audit.opened_runs[index] == len(with_opening)
        assert audit.blind_targets.sum() == 0

    @properties
    @given(masks(), widths, seeds)
    def test_frames_outside_are_those_that_the_window_does_not_hold(self, case, width, seed):
        mask, lengths = case
        window = block_masks.random_window(lengths, width, generator(seed))
        audit = audit_masks(mask, lengths, 1, 1, window=window)
        for index, (start, frames) in enumerate(windows_of(window, len(lengths))):
            row = mask[index].tolist()
            assert audit.frames_outside[index] == sum(row) - sum(row[start : start + frames])

    def test_it_takes_the_masks_that_a_module_returns(self):
        mask = torch.zeros(2, 24, dtype=torch.bool)
        mask[0, 8:24] = True
        lengths = torch.tensor([24, 16])
        plain = audit_masks(mask, lengths, 1, 8)
        expanded = audit_masks(mask.half().unsqueeze(1).expand(-1, 5, -1), lengths, 1, 8)
        assert plain.targets.tolist() == expanded.targets.tolist() == [2, 0]
        assert plain.blind_targets.tolist() == expanded.blind_targets.tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (dict(left=-2), ValueError, "left must be .* got -2"),
            (dict(left=True), TypeError, "left must be .* got True"),
            (dict(subsampling_factor=0), ValueError, "subsampling_factor must be .* got 0"),
            (dict(masks=torch.zeros(4, dtype=torch.bool)), ValueError, r"masks must be .* got \[4\]"),
            (dict(lengths=torch.tensor([1, 2, 3])), ValueError, r"lengths must be \[B\] = \[1\] .* got \[3\]"),
        ],
    )
    def test_bad_input_is_named(self, arguments, error, message):
        given = dict(
            masks=torch.zeros(1, 8, dtype=torch.bool), lengths=torch.tensor([8]), left=1, subsampling_factor=8
        )
        with pytest.raises(error, match=message):
            audit_masks(**{**given, **arguments})


@pytest.mark.parametrize("overlap", [False, True])
def test_no_step_needs_a_value_on_the_host(overlap):
    """Tensors of the device "meta" have no values: an operation that needs one fails."""
    lengths = torch.zeros(3, dtype=torch.long, device="meta")
    for window in (block_masks.tail_window(lengths, 40), block_masks.random_window(lengths, 40)):
        mask = block_masks.sample_causal_blocks(
            window, 100, mask_prob=0.1, block_size=7, allow_overlap=overlap, max_mask_ratio=0.8
        )
        opened = block_masks.frames_to_open(mask, lengths, 5, 8)
        audit = audit_masks(block_masks.unmask(mask, opened, 8), lengths, 5, 8, window=window, opened=opened)
        assert audit.opened_runs.shape == (3,) and audit.opened_runs.device.type == "meta"
