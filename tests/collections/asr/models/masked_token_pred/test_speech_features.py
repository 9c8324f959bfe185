"""The forward's arguments: audio or features, clean alone or with noise."""

import pytest
import torch


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_clean_audio_alone_goes_in_by_position(tiny_model, audio, denoise, mask_position):
    model = tiny_model({"mask_position": mask_position}, denoise=denoise).eval()
    log_probs, encoded_len, masks, tokens = model.forward(*audio, apply_mask=False)
    assert encoded_len.tolist() == [51, 34]
    assert log_probs.shape == (2, 51, 32, 1) and masks.sum() == 0
    assert tokens.shape[:2] == (2, 51)
    by_name = model.forward(input_signal=audio[0], input_signal_length=audio[1])
    torch.testing.assert_close(by_name[0], log_probs)


def test_noisy_features_are_taken_under_both_of_their_names(tiny_model, audio):
    model = tiny_model().eval()
    features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
    clean = dict(processed_signal=features, processed_signal_length=lengths)
    noisy = features + 0.5
    argument, *_ = model.forward(
        **clean, processed_noisy_input_signal=noisy, processed_noisy_input_signal_length=lengths
    )
    typed, *_ = model.forward(**clean, processed_noisy_signal=noisy, processed_noisy_signal_length=lengths)
    plain, *_ = model.forward(**clean)
    torch.testing.assert_close(argument, typed)
    assert (argument - plain).abs().max() > 1e-3
    with pytest.raises(ValueError, match="two names of one argument"):
        model.forward(
            **clean,
            processed_noisy_input_signal=noisy,
            processed_noisy_signal=noisy,
            processed_noisy_signal_length=lengths,
        )


def test_wrong_signals_are_named(tiny_model, audio):
    model = tiny_model().eval()
    features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
    with pytest.raises(ValueError, match="either input_signal or processed_signal.*neither"):
        model.forward()
    with pytest.raises(ValueError, match="input_signal and processed_signal"):
        model.forward(*audio, features, lengths)
    with pytest.raises(ValueError, match="input_signal_length .B. with input_signal"):
        model.forward(audio[0])
    with pytest.raises(ValueError, match="noisy_input_signal_length .B. with noisy_input_signal"):
        model.forward(*audio, noisy_input_signal=audio[0])
    with pytest.raises(TypeError, match="Input shape"):
        model.forward(audio[0][0], audio[1])
