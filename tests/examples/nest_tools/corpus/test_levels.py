"""The level of the corpus's audio."""

import numpy as np
import pytest
from nest_tools.corpus.levels import gain, to_int16


def test_the_gain_gives_the_level_unless_that_would_clip():
    soft, peaky = np.array([0.1, -0.1, 0.1, -0.1]), np.array([1.0, 0.0, 0.0, 0.0])
    assert np.sqrt(np.mean((soft * gain(soft, 0.07)) ** 2)) == pytest.approx(0.07)
    assert np.abs(peaky * gain(peaky, 0.9)).max() == pytest.approx(0.95)


def test_samples_are_rounded_and_clipped_to_16_bits():
    samples = to_int16(np.array([0.0, 1.0, -1.0, 2.0, -2.0, 0.6 / 32767]))
    assert samples.dtype == np.int16 and samples.tolist() == [0, 32767, -32767, 32767, -32768, 1]
