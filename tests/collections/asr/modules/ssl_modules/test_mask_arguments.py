"""Tensors given to masking come back as int64 or are refused by name; values on a device are not read."""

import pytest
import torch

from nemo.collections.asr.modules.ssl_modules.mask_arguments import (
    check_current_frame,
    check_features,
    check_left,
    check_lengths,
    readable,
)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64, torch.uint8])
def test_lengths_of_any_whole_type_become_int64(dtype):
    lengths = check_lengths(torch.tensor([0, 7, 60], dtype=dtype), 60)
    assert lengths.dtype == torch.int64 and lengths.tolist() == [0, 7, 60]


def test_no_utterance_is_a_batch_too():
    assert check_lengths(torch.zeros(0, dtype=torch.long), 60).shape == (0,)


def test_a_current_frame_is_none_a_number_or_one_for_each_utterance():
    lengths = torch.tensor([9, 5])
    assert check_current_frame(None, lengths) is None
    assert check_current_frame(4, lengths) == 4
    frames = check_current_frame(torch.tensor([3, 0], dtype=torch.int32), lengths)
    assert frames.dtype == torch.int64 and frames.tolist() == [3, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: check_left("left", -2),
            ValueError,
            "left must be .* encoder frames >= 0, or -1 for no limit; got -2",
        ),
        (lambda: check_left("left", 1.5), TypeError, "left must be .* got 1.5 of type float"),
        (
            lambda: check_lengths([1], 9),
            TypeError,
            r"input_lengths must be a tensor of whole numbers \[B\].* got list",
        ),
        (lambda: check_lengths(torch.ones(2) > 0, 9), TypeError, "input_lengths must be .* got torch.bool"),
        (lambda: check_lengths(torch.tensor(3), 9), ValueError, r"input_lengths must be \[B\]; got \[\]"),
        (lambda: check_lengths(torch.tensor([3, 10]), 9), ValueError, "must be from 0 to T = 9 frames; got 10"),
        (lambda: check_lengths(torch.tensor([-1, 10]), 9), ValueError, "must be from 0 to T = 9 frames; got -1"),
        (
            lambda: check_current_frame(torch.tensor([3, -4]), torch.tensor([9, 9])),
            ValueError,
            "current_frame must be >= 0 in every utterance; got -4",
        ),
        (
            lambda: check_features(torch.zeros(2, 4, 9), torch.tensor([9, 9]), channels=5),
            ValueError,
            r"input_feats must be \[B, D, T\] with D = 5; got \[2, 4, 9\]",
        ),
        (
            lambda: check_features(torch.zeros(2, 4, 9), torch.tensor([9]), channels=4),
            ValueError,
            r"input_lengths must be \[B\] = \[2\]; got \[1\]",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_values_of_a_device_are_not_read():
    """Tensors of the device "meta" have no values: reading one raises."""
    lengths = torch.zeros(2, dtype=torch.int32, device="meta")
    assert not readable(lengths) and readable(torch.zeros(2)) and not readable(torch.zeros(0))
    assert check_lengths(lengths, 9).dtype == torch.int64
    assert check_current_frame(lengths, lengths.long()).dtype == torch.int64
