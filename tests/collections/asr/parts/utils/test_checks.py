"""Checks of arguments, and the one form of their messages."""

import math

import numpy as np
import pytest

from nemo.collections.asr.parts.utils.checks import check_choice, check_number, check_whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_of_any_library_are_taken_and_come_back_as_int(value):
    checked = check_whole_number("left", value, minimum=3, maximum=3)
    assert checked == 3 and type(checked) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, np.float32(3), [3]])
def test_what_is_no_whole_number_is_a_type_error(value):
    with pytest.raises(TypeError) as raised:
        check_whole_number("left", value)
    assert str(raised.value) == f"left must be a whole number; got {value!r} of type {type(value).__name__}"


@pytest.mark.parametrize(
    ("bounds", "allowed"),
    [
        (dict(minimum=4), "a whole number >= 4"),
        (dict(maximum=2), "a whole number <= 2"),
        (dict(minimum=4, maximum=9), "a whole number from 4 to 9"),
        (dict(maximum=2, allowed="0 (off) to 2"), "0 (off) to 2"),
    ],
)
def test_a_whole_number_out_of_bounds_is_a_value_error_that_gives_the_bounds(bounds, allowed):
    with pytest.raises(ValueError) as raised:
        check_whole_number("left", 3, **bounds)
    assert str(raised.value) == f"left must be {allowed}; got 3"


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int16(1)])
def test_numbers_of_any_library_are_taken_and_come_back_as_float(value):
    checked = check_number("share", value, 0.5, 1)
    assert checked == float(value) and type(checked) is float


@pytest.mark.parametrize("value", [True, "0.5", None, 1j])
def test_what_is_no_number_is_a_type_error(value):
    with pytest.raises(TypeError, match="^share must be a number from 0 to 1; got .* of type"):
        check_number("share", value, 0, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf, -math.inf, math.nan])
def test_a_number_out_of_bounds_or_not_finite_is_a_value_error(value):
    with pytest.raises(ValueError, match="^share must be a number from 0 to 1; got "):
        check_number("share", value, 0, 1)
    if not math.isfinite(value):
        with pytest.raises(ValueError, match="^share must be a number; got "):
            check_number("share", value)


def test_a_choice_is_one_of_those_named():
    assert check_choice("window", "tail", ["tail", "sliding"]) == "tail"
    with pytest.raises(ValueError, match="^window must be one of 'tail', 'sliding'; got 'head'$"):
        check_choice("window", "head", iter(["tail", "sliding"]))
