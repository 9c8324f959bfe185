"""Feature extraction leaves its input alone, and survives a copy and a pickle."""

import copy
import pickle

import pytest
import torch

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor


@pytest.fixture
def preprocessor() -> AudioToMelSpectrogramPreprocessor:
    return AudioToMelSpectrogramPreprocessor(normalize="NA", features=8, pad_to=0, dither=1e-2)


@pytest.mark.parametrize("training", [True, False])
def test_the_callers_audio_is_not_changed(preprocessor, audio, training):
    signal, lengths = audio
    before = signal.clone()
    preprocessor.train(training)(input_signal=signal, length=lengths)
    assert torch.equal(signal, before)


def test_dither_is_added_in_training_as_nemo_adds_it(preprocessor, audio):
    signal, lengths = audio
    torch.manual_seed(3)
    features, _ = preprocessor.train()(input_signal=signal, length=lengths)
    torch.manual_seed(3)
    dithered = signal + 1e-2 * torch.randn_like(signal)
    expected, _ = preprocessor.eval()(input_signal=dithered, length=lengths)
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_twin_computes_the_same_and_has_settings_of_its_own(preprocessor, audio, twin_of):
    signal, lengths = audio
    preprocessor.eval()
    twin = twin_of(preprocessor)
    expected, _ = preprocessor(input_signal=signal, length=lengths)
    preprocessor.featurizer.mag_power = 1.0
    features, _ = twin(input_signal=signal, length=lengths)
    assert torch.equal(features, expected) and not features.requires_grad
