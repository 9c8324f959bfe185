"""Features normalised by the statistics of a corpus: the same in a batch, alone, and in a live stream."""

import pytest
import torch
from omegaconf import OmegaConf
from stream_cases import TinyModel, assert_same_frames, batch, offline, streamed

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.parts.preprocessing.features import nemo_normalize_batch
from nemo.collections.asr.parts.streaming import EncoderStream


def preprocessor(normalize) -> AudioToMelSpectrogramPreprocessor:
    return AudioToMelSpectrogramPreprocessor(normalize=normalize, features=8, pad_to=0, dither=0.0).eval()


MEAN, STD = [float(-channel) for channel in range(8)], [1.0 + channel for channel in range(8)]


@pytest.fixture
def fixed() -> AudioToMelSpectrogramPreprocessor:
    return preprocessor(OmegaConf.create({"fixed_mean": MEAN, "fixed_std": STD}))


def test_a_batch_of_any_size_is_normalised_by_them_up_to_its_lengths(fixed, audio):
    signal, lengths = audio
    plain, frames = preprocessor("NA")(input_signal=signal, length=lengths)
    features, fixed_frames = fixed(input_signal=signal, length=lengths)
    assert torch.equal(frames, fixed_frames) and len(frames) == 2
    for row, expected, count in zip(features, plain, frames, strict=True):
        expected = (expected.T - torch.tensor(MEAN)) / torch.tensor(STD)
        torch.testing.assert_close(row[:, :count], expected.T[:, :count])
        assert (row[:, count:] == 0).all()


def test_one_utterance_gets_what_nemo_gives_it(fixed, audio):
    signal, lengths = audio[0][:1], audio[1][:1]
    features, _ = fixed(input_signal=signal, length=lengths)
    expected, frames = preprocessor("NA")(input_signal=signal, length=lengths)
    nemo = nemo_normalize_batch(expected, frames, {"fixed_mean": MEAN, "fixed_std": STD})[0]
    torch.testing.assert_close(features[..., : int(frames)], nemo[..., : int(frames)], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"fixed_mean": [0.0] * 3}, ValueError, "normalize.fixed_mean must be 8 numbers.*got 3"),
        ({"fixed_std": [1.0] * 7 + [0.0]}, ValueError, "normalize.fixed_std must be 8 numbers above 0; got 0.0"),
        ({"fixed_std": [1.0] * 7 + [float("nan")]}, ValueError, "normalize.fixed_std must be 8 numbers"),
        ({"fixed_mean": "0"}, TypeError, "normalize.fixed_mean must be 8 numbers.*got '0'"),
        ({"fixed_mean": ["a"] * 8}, TypeError, "normalize.fixed_mean must be 8 numbers.*got 'a'"),
        ({"fixed_std": None}, TypeError, "normalize.fixed_std must be 8 numbers.*got None"),
    ],
)
def test_what_is_wrong_with_them_is_said_when_it_is_built(changes, error, message):
    normalize = {"fixed_mean": MEAN, "fixed_std": STD, **changes}
    with pytest.raises(error, match=message):
        AudioToMelSpectrogramPreprocessor(normalize=normalize, features=8)


def test_one_of_the_two_is_not_enough():
    with pytest.raises(ValueError, match="normalize must have both fixed_mean and fixed_std; got fixed_mean"):
        AudioToMelSpectrogramPreprocessor(normalize={"fixed_mean": MEAN}, features=8)


@pytest.mark.parametrize("context", [[8, 0], [-1, 0]], ids=str)
def test_a_live_stream_gives_the_frames_of_the_whole_audio(context):
    model = TinyModel()
    statistics = {"fixed_mean": [-9.0 + channel for channel in range(16)], "fixed_std": [3.0 + k for k in range(16)]}
    model.preprocessor = AudioToMelSpectrogramPreprocessor(
        normalize=statistics, window_size=0.025, features=16, n_fft=512, pad_to=0, dither=0.0
    ).eval()
    audio, lengths = batch([30000, 17777])
    with EncoderStream(model, context, batch_size=2) as stream:
        live = streamed(stream, audio, lengths, [1, 4000, 777])
    assert_same_frames(live, offline(model, context, audio, lengths))
