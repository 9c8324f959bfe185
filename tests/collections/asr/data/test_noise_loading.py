"""NeMo's functions that load noise for one utterance."""

import numpy as np
import pytest
import torch
from small_corpus import RATE, speech_like, write_audio

from nemo.collections.asr.data.audio_files import UnreadableAudio
from nemo.collections.asr.data.ssl_dataset import load_noise_audio, sample_noise


def test_noise_is_as_long_as_the_utterance(tmp_path):
    entry = {"audio_filepath": str(write_audio(tmp_path / "a.wav", speech_like(0, 1.0))), "duration": 1.0}
    for length, padded, expected in (
        (5000, True, 5000),
        (20000, True, 20000),
        (20000, False, 16000),
        (None, True, 16000),
    ):
        noise, noise_len = load_noise_audio(entry, RATE, length, pad_to_max=padded)
        assert noise.shape == (expected,) and noise_len == min(length or 16000, 16000) and noise.dtype == torch.float32
        assert not noise[16000:].any()


def test_a_silent_recording_is_white_noise_of_the_level_asked_for(tmp_path):
    entry = {"audio_filepath": str(write_audio(tmp_path / "a.wav", np.zeros(9000)))}
    noise, _ = load_noise_audio(entry, RATE, 4000, min_white_noise_db=-40, max_white_noise_db=-39, max_trial=3)
    assert 20 * np.log10(float(noise.std())) == pytest.approx(-40, abs=0.5)


def test_unreadable_noise_is_an_error_of_one_and_passed_over_among_several(tmp_path, warnings_of_nemo):
    good = {"audio_filepath": str(write_audio(tmp_path / "a.wav", np.full(9000, 0.5)))}
    bad = {"audio_filepath": str(tmp_path / "missing.wav")}
    with pytest.raises(UnreadableAudio, match="does not exist"):
        load_noise_audio(bad, RATE, 4000)
    for _ in range(20):
        noise, noise_len = sample_noise([good, bad], RATE, 4000)
        assert noise_len == 4000 and torch.equal(noise, torch.full((4000,), 0.5))
    noise, noise_len = sample_noise([bad], RATE, 4000)
    assert noise_len == 4000 and not noise.any() and len(noise) == 4000
    assert len(sample_noise([good], RATE)[0]) == 9000
