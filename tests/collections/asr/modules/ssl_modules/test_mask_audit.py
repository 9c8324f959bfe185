"""The audit, against a walk through the frames."""

import mask_reference as reference
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_cases import factors, generator, lefts, masks, properties, seeds, widths, windows_of

from nemo.collections.asr.modules.ssl_modules.blind_runs import frames_to_open, unmask
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
from nemo.collections.asr.modules.ssl_modules.mask_windows import random_window


@properties
@given(masks(), lefts, factors, st.floats(0, 0.99))
def test_counts_are_those_of_a_walk_through_the_frames(case, left, factor, threshold):
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
def test_opened_runs_are_the_runs_with_an_opening(case, left, factor):
    mask, lengths = case
    opened = frames_to_open(mask, lengths, left, factor)
    after = unmask(mask, opened, factor)
    audit = audit_masks(after, lengths, left, factor, opened=opened)
    for index, (row, length) in enumerate(zip(mask.tolist(), lengths.tolist(), strict=True)):
        whole = reference.wholly_masked(row, length, factor)
        indices = set(reference.opened(whole, left))
        with_opening = [1 for begin, size in reference.runs(whole) if indices & set(range(begin, begin + size))]
        assert audit.opened_runs[index] == len(with_opening)
    assert audit.blind_targets.sum() == 0


@properties
@given(masks(), widths, seeds)
def test_frames_outside_are_those_that_the_window_does_not_hold(case, width, seed):
    mask, lengths = case
    window = random_window(lengths, width, generator(seed))
    audit = audit_masks(mask, lengths, 1, 1, window=window)
    for index, (start, frames) in enumerate(windows_of(window, len(lengths))):
        row = mask[index].tolist()
        assert audit.frames_outside[index] == sum(row) - sum(row[start : start + frames])


def test_it_takes_the_masks_that_a_module_returns():
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
        (dict(lengths=torch.tensor([1, 2, 3])), ValueError, r"lengths must be \[B\] = \[1\]; got \[3\]"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    valid = dict(masks=torch.zeros(1, 8, dtype=torch.bool), lengths=torch.tensor([8]), left=1, subsampling_factor=8)
    with pytest.raises(error, match=message):
        audit_masks(**{**valid, **arguments})
