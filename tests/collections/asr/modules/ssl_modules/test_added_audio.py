"""Where added audio lies, and how loud it is."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from nemo.collections.asr.modules.ssl_modules.added_audio import (
    AddedAudio,
    BatchNoise,
    repeated,
    sample_piece_lengths,
    sample_places,
)

ALPHA = 1e-4
"""Error rate of each statistical test."""


def test_every_sample_falls_into_any_piece_with_equal_probability():
    np.random.seed(0)
    counts = Counter(tuple(sample_piece_lengths(3, 2)) for _ in range(4000))
    # Three samples into two pieces, counted plainly; empty pieces are left away.
    plain = Counter()
    for choice in itertools.product(range(2), repeat=3):
        plain[tuple(length for length in (choice.count(0), choice.count(1)) if length)] += 1 / 8
    assert set(counts) == set(plain)
    expected = [4000 * plain[key] for key in sorted(plain)]
    assert stats.chisquare([counts[key] for key in sorted(plain)], expected).pvalue > ALPHA


@pytest.mark.parametrize("total, pieces", [(1, 1), (1, 50), (7, 3), (144000, 5), (10, 1)])
def test_pieces_are_not_empty_and_make_up_the_whole(total, pieces):
    for _ in range(50):
        lengths = sample_piece_lengths(total, pieces)
        assert sum(lengths) == total and 1 <= len(lengths) <= pieces and min(lengths) >= 1


def test_places_follow_one_another_as_in_nemo():
    random.seed(0)
    counts = Counter(tuple(sample_places([2, 1], 5)) for _ in range(6000))
    # Two samples are free. The first piece begins after 0, 1 or 2 of them, the second anywhere in what is then left.
    expected = {}
    for first in range(3):
        for second in range(first + 2, 5):
            expected[first, second] = 6000 / 3 / (3 - first)
    assert set(counts) == set(expected)
    keys = sorted(expected)
    assert stats.chisquare([counts[key] for key in keys], [expected[key] for key in keys]).pvalue > ALPHA


def test_places_fit_where_nothing_is_free():
    assert sample_places([3, 4, 1], 8) == [0, 3, 7]


@pytest.mark.parametrize("ratio", [-5.0, 0.0, 20.0])
def test_the_gain_gives_the_energy_ratio(ratio):
    utterance, pieces = torch.randn(1000), [torch.randn(100) * 3, torch.randn(50) / 7]
    gain = AddedAudio(pieces, [0, 500], ratio).gain(utterance)
    added = torch.cat(pieces) * gain
    assert 10 * np.log10(float(utterance.square().mean() / added.square().mean())) == pytest.approx(ratio, abs=1e-3)


def test_silence_is_not_amplified():
    assert AddedAudio([torch.zeros(10)], [0], 0.0).gain(torch.randn(20)) == 0.0
    assert AddedAudio([torch.ones(10)], [0], 0.0).gain(torch.zeros(20)) == 0.0
    assert AddedAudio([], [], 0.0).gain(torch.ones(20)) == 0.0


def test_short_audio_is_repeated():
    assert repeated(torch.arange(3), 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert repeated(torch.arange(3), 2).tolist() == [0, 1]
    assert repeated(torch.arange(3), 3).tolist() == [0, 1, 2]


def test_the_noise_of_a_batch_is_taken_from_its_start_or_anywhere():
    noise = BatchNoise(torch.stack([torch.arange(10.0), torch.arange(10.0) + 100]), torch.tensor([10, 0]))
    assert noise.segment(0, 4).tolist() == [0, 1, 2, 3]
    assert noise.segment(0, 40).tolist() == list(range(10))
    assert {float(noise.segment(0, 4, anywhere=True)[0]) for _ in range(200)} == set(range(7))
    assert len(noise.segment(1, 4)) == len(noise.segment(1, 4, anywhere=True)) == 0
