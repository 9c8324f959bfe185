"""The frames that probes are fitted on: live as offline, and log-mels."""

import pytest
import torch
from labelled_speech import speech
from nest_tools.probe.frames import log_mel_frames, offline_frames, streamed_frames


@pytest.mark.parametrize("layers", [1, 3])
def test_frames_are_the_outputs_of_all_layers_live_as_offline(layers, tiny_model):
    model = tiny_model({"encoder.n_layers": layers}).eval()
    audio = speech(2.4, []).audio
    offline, live = offline_frames(model, audio, [8, 0]), streamed_frames(model, audio, [8, 0])
    assert len(offline) == len(live) == layers
    for given, expected in zip(live, offline, strict=True):
        assert given.shape == (31, model.cfg.encoder.d_model)
        torch.testing.assert_close(given, expected, atol=1e-4, rtol=0)
    assert layers == 1 or not torch.equal(offline[0], offline[-1])


def test_log_mels_are_those_of_the_token_that_a_frame_has_newly_seen(tiny_model):
    model = tiny_model().eval()
    audio = speech(1.0, []).audio
    features, length = model.preprocessor(input_signal=audio[None], length=torch.tensor([len(audio)]))
    frames = log_mel_frames(model, audio, shift=1)
    assert frames.shape == (1 + int(length) // 8, 8 * features.shape[1]) and not frames[0].any()
    torch.testing.assert_close(frames[3], features[0, :, 16:24].T.flatten())
