"""Intervals and spectrograms of pictures, in seconds."""

import math

import numpy as np
import pytest
from nest_tools.report.picture_data import Interval, Spectrogram


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((1, 2), (1, 2)), ((-1, 2), (0, 2)), ((3, 9), (3, 4)), ((-math.inf, math.inf), (0, 4)), ((5, 6), (4, 4))],
)
def test_an_interval_is_cut_to_the_utterance(interval, expected):
    assert Interval(*interval).within(4) == expected


def test_a_spectrogram_is_as_long_as_its_frames():
    assert Spectrogram("speech", np.zeros((80, 250)), 0.01).seconds == pytest.approx(2.5)
