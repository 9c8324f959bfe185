"""Tokens are those of the clean speech, with the number that is inside each utterance."""

import pytest
import torch
from pretraining_batches import noisy_batch


@pytest.mark.parametrize(("mask_position", "counts"), [("pre_conv", [50, 32]), ("post_conv", [51, 34])])
def test_tokens_ignore_the_noise_and_are_counted_inside_the_utterances(tiny_model, audio, mask_position, counts):
    model = tiny_model({"mask_position": mask_position, "num_books": 3}).eval()
    features = model.speech_features(noisy_batch(*audio))
    assert features.clean is not features.noisy
    tokens, lengths = model.tokenize(features)
    assert tokens.shape == (2, max(counts) if mask_position == "post_conv" else 51, 3)
    assert lengths.tolist() == counts

    clean = model.speech_features(noisy_batch(*audio))
    clean = type(clean).without_noise(clean.clean, clean.clean_lengths)
    _, encoded_len, _ = model._encode(clean, False, None)
    ours, own_lengths = model._tokens_and_lengths(clean, encoded_len)
    assert torch.equal(ours, tokens) and torch.equal(own_lengths, lengths)
    assert torch.equal(model._tokens(clean, encoded_len), tokens)
