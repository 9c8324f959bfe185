"""The benchmark of the data path: how it measures."""

import json
from pathlib import Path

import data_path
import numpy as np
import pytest
import soundfile


def test_written_noise_is_that_long_and_has_the_offset(tmp_path):
    entry = data_path.write(tmp_path, "below", 2.0, "wav", 16000, offset=-0.01)
    samples, rate = soundfile.read(entry["audio_filepath"])
    assert (rate, len(samples), entry["duration"]) == (16000, 32000, 2.0)
    assert samples.mean() == pytest.approx(-0.01, abs=3e-3) and np.abs(samples).max() < 1
    manifest = data_path.manifest(tmp_path, "manifest.json", [entry])
    assert json.loads(Path(manifest).read_text()) == entry


def test_all_calls_take_their_turn_in_every_round():
    turns = []
    calls = {name: lambda name=name: turns.append(name) for name in ("NeMo", "here")}
    times = data_path.medians(calls, rounds=2, often=3)
    assert turns == ["here", *["NeMo", *["here"] * 3] * 2]  # the first one warms up
    assert list(times) == ["NeMo", "here"] and min(times.values()) >= 0


@pytest.mark.parametrize(("value", "at_least", "at_most"), [(9, False, True), (10, True, True), (11, True, False)])
def test_a_goal_is_met_at_its_limit(value, at_least, at_most):
    assert [data_path.is_met(value, bound, 10) for bound in ("at least", "at most")] == [at_least, at_most]


def test_nemos_modules_are_other_ones_than_ours():
    for ours, nemos, name in zip(
        data_path.OURS, data_path.NEMOS, ("AudioNoiseDataset", "MultiSpeakerNoiseAugmentation"), strict=True
    ):
        assert getattr(ours, name) is not getattr(nemos, name)
