"""The noises of the corpus: kinds, lengths and levels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_examples import centroid, entries_of
from nest_tools.corpus.noise import NOISES, make_noise


@pytest.mark.slow
def test_noises_are_of_every_kind_and_5_to_20_s_long(corpus):
    entries = entries_of(corpus.noise_manifest)
    assert [Path(entry["audio_filepath"]).stem for entry in entries] == list(NOISES)
    assert sum(entry["duration"] for entry in entries) == pytest.approx(corpus.noise_seconds)
    centroids = {}
    for entry in entries:
        audio, _ = soundfile.read(corpus.folder / entry["audio_filepath"])
        assert 5 <= entry["duration"] <= 20
        assert 0.03 < np.sqrt(np.mean(audio**2)) < 0.08 and np.abs(audio).max() < 1.0
        centroids[Path(entry["audio_filepath"]).stem] = centroid(audio)
    assert centroids["white"] == pytest.approx(4000, rel=0.05)
    assert centroids["white"] > centroids["pink"] > centroids["brown"]
    assert centroids["hum_50hz"] < 500 < centroids["babble_3"] < 3000


def test_a_noise_depends_on_its_name_and_seed():
    white = make_noise("white", 0, [])
    assert white.dtype == np.int16 and np.array_equal(white, make_noise("white", 0, []))
    other = make_noise("white", 1, [])
    assert len(other) != len(white) or not np.array_equal(other, white)


def test_babble_is_made_of_the_speech_that_is_given(tmp_path):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    soundfile.write(tmp_path / "tone.wav", tone, 16000)
    babble = make_noise("babble_1", 0, [tmp_path / "tone.wav"]).astype(float)
    assert centroid(babble[:16000]) == pytest.approx(440, rel=0.02)
