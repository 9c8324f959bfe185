"""Targets are the tokens that are masked enough and have a decoder frame, by a walk through the frames."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo.collections.asr.losses.ssl_losses.masked_targets import has_decoder_frame, target_mask, token_predictions

properties = settings(deadline=None, max_examples=100, derandomize=True)


def expected_targets(masks, steps, threshold, lengths, shift):
    """By utterance and token: the share of ones in what the token is made of, and whether its frame is valid."""
    rows = []
    for utterance, length in zip(masks, lengths, strict=True):
        channels, frames = utterance.shape
        row = []
        for token in range(math.ceil(frames / steps)):
            ones = utterance[:, token * steps : (token + 1) * steps].sum().item()
            row.append(ones / (steps * channels) > threshold and token + shift < length)
        rows.append(row)
    return rows


@properties
@given(
    st.integers(1, 9), st.integers(0, 40), st.sampled_from([0.0, 0.5, 0.8]), st.integers(0, 3), st.integers(0, 2**31)
)
def test_targets_are_those_of_a_walk_through_the_frames(steps, frames, threshold, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(3, 2, frames, generator=generator) < 0.8).float()
    lengths = torch.randint(0, 12, (3,), generator=generator)
    found = target_mask(masks, steps, threshold, lengths, shift)
    assert found.dtype == torch.bool
    assert found.tolist() == expected_targets(masks, steps, threshold, lengths.tolist(), shift)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_masks_of_any_type_and_layout_give_the_same_targets(dtype):
    masks = torch.zeros(3, 1, 77)
    masks[0, :, :33] = masks[1, :, 7:71] = masks[2, :, 2:] = 1
    masks = masks.expand(-1, 5, -1)
    expected = target_mask(masks, 8)
    assert expected.sum().item() == 4 + 7 + 9
    assert torch.equal(target_mask(masks.to(dtype), 8), expected)
    assert torch.equal(target_mask(masks.clone(), 8), expected)


def test_without_lengths_every_token_has_a_decoder_frame():
    tokens = torch.zeros(2, 5, dtype=torch.bool)
    assert has_decoder_frame(tokens, None, target_shift=9).all()
    assert has_decoder_frame(tokens, torch.tensor([3, 9]), target_shift=1).sum(1).tolist() == [2, 5]


@properties
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4), st.booleans(), st.integers(0, 2**31))
def test_predictions_are_the_most_probable_ids_of_the_shifted_frames(frames, tokens, shift, books, seed):
    shape = (2, frames, 5, 3) if books else (2, frames, 5)
    log_probs = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    predictions = token_predictions(log_probs, tokens, target_shift=shift)
    assert predictions.shape == ((2, tokens, 3) if books else (2, tokens)) and not predictions.requires_grad
    for token in range(tokens):
        frame = token + shift
        if frame < frames:
            assert torch.equal(predictions[:, token], log_probs[:, frame].argmax(dim=1))
        else:
            assert not predictions[:, token].any()
