"""Windows, against plain Python that goes utterance by utterance."""

import mask_reference as reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from mask_cases import batches, generator, properties, seeds, widths, windows_of

from nemo.collections.asr.modules.ssl_modules.mask_windows import random_window, tail_window, window_width


@properties
@given(batches, widths, st.one_of(st.none(), st.integers(0, 100)))
def test_tail_window_is_the_last_frames_before_the_current_one(batch, width, current):
    _, lengths = batch
    window = tail_window(torch.tensor(lengths), width, current)
    assert windows_of(window, len(lengths)) == [reference.tail_window(n, width, current) for n in lengths]


@properties
@given(batches, widths, st.data())
def test_tail_window_takes_a_current_frame_per_utterance(batch, width, data):
    _, lengths = batch
    current = [data.draw(st.integers(0, 100)) for _ in lengths]
    window = tail_window(torch.tensor(lengths), width, torch.tensor(current))
    expected = [reference.tail_window(n, width, at) for n, at in zip(lengths, current, strict=True)]
    assert windows_of(window, len(lengths)) == expected


@properties
@given(batches, widths, seeds)
def test_random_window_is_full_or_the_whole_utterance(batch, width, seed):
    _, lengths = batch
    window = random_window(torch.tensor(lengths), width, generator(seed))
    for length, (start, frames) in zip(lengths, windows_of(window, len(lengths)), strict=True):
        assert frames == (length if width == -1 else min(width, length))
        assert 0 <= start <= length - frames


def test_random_window_ends_at_each_possible_frame_equally_often():
    samples, length, width = 40_000, 30, 21
    window = random_window(torch.full((samples,), length), width, generator(0))
    counts = torch.bincount(window.end().flatten(), minlength=length + 1)
    assert counts[:width].sum() == 0
    # Ten equal cells; 33.7 is exceeded with probability 1e-4 (chi-squared, 9 degrees of freedom).
    expected = samples / (length - width + 1)
    assert ((counts[width:] - expected) ** 2 / expected).sum() < 33.7


def test_window_width_counts_encoder_frames_in_frames():
    assert [window_width(left, 8) for left in (-1, 0, 1, 80)] == [-1, 0, 8, 640]
