"""An encoder whose context was set by hand to a preset's name."""

import pytest
import torch

from nemo.collections.asr.parts.utils.streaming_utils import (
    EncoderStream,
    set_dynamic_context,
    sync_masking_context_with_attention,
)


@pytest.mark.parametrize("name, size", [("low", [160, 0]), ("very_low", [80, 0])])
def test_a_presets_name_by_hand_is_the_presets_context(tiny_model, name, size):
    model = tiny_model().eval()
    generator = torch.Generator().manual_seed(0)
    features, lengths = torch.randn(1, 80, 1700, generator=generator), torch.tensor([1700])
    with torch.inference_mode():
        model.encoder.att_context_size = size
        expected, _ = model.encoder(audio_signal=features, length=lengths)
        model.encoder.att_context_size = [-1, 0]
        unlimited, _ = model.encoder(audio_signal=features, length=lengths)
        model.encoder.att_context_size = name
        encoded, _ = model.encoder(audio_signal=features, length=lengths)
    torch.testing.assert_close(encoded, expected, rtol=0, atol=0)
    assert not torch.allclose(encoded, unlimited)


def test_a_presets_name_by_hand_holds_in_forwards_and_helpers(tiny_model, audio):
    model = tiny_model().eval()
    set_dynamic_context(model, "low")
    expected = model.forward(*audio, apply_mask=False)[0]
    model.encoder.att_context_size = "low"
    torch.testing.assert_close(model.forward(*audio, apply_mask=False)[0], expected)
    assert sync_masking_context_with_attention(model)
    assert model.encoder.att_context_size == [160, 0] and model.mask_processor.left_context_size == 160
    model.encoder.att_context_size = "low"
    with EncoderStream(model) as stream:
        assert stream.push(audio[0][0])[0].shape[2] > 0


def test_a_presets_name_by_hand_holds_in_training_once_it_is_pinned(tiny_model, audio):
    model = tiny_model()
    set_dynamic_context(model, [8, 0])
    model.encoder.att_context_size = "low"
    log_probs, *_ = model.train().forward(*audio, apply_mask=True)
    assert log_probs.isfinite().all() and model.current_att_context == [160, 0]


def test_an_unknown_name_by_hand_is_refused_with_the_nearest_one(tiny_model, audio):
    model = tiny_model().eval()
    model.encoder.att_context_size = "lwo"
    with pytest.raises(ValueError, match="encoder.att_context_size must be .*'low'"):
        model.forward(*audio)
    with pytest.raises(ValueError, match="encoder.att_context_size must be .*'low'"):
        model.encoder(audio_signal=torch.zeros(1, 80, 100), length=torch.tensor([100]))
