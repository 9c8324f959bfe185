"""Audio that no stream can take is refused, with what is allowed."""

import numpy as np
import pytest
import torch

from nemo.collections.asr.parts.streaming.audio_input import check_audio, check_finite, check_lengths, silence_past

NAN, INFINITY = float("nan"), float("inf")


def checked(audio, lengths=None, batch_size: int = 2) -> tuple[torch.Tensor, np.ndarray]:
    """All checks, in the order in which a stream makes them."""
    audio = check_audio(audio, batch_size)
    lengths = check_lengths(lengths, batch_size, audio.shape[1])
    audio = silence_past(audio, lengths)
    check_finite(audio)
    return audio, lengths


@pytest.mark.parametrize(
    ("audio", "lengths", "error", "said"),
    [
        ([[0.0] * 9] * 2, None, TypeError, "audio must be a torch.Tensor or a numpy array; got list"),
        ("audio", None, TypeError, "audio must be a torch.Tensor or a numpy array; got str"),
        (np.zeros((2, 9), dtype=np.int16), None, TypeError, "audio must be floating point.*; got torch.int16.*32768"),
        (torch.zeros(2, 9, dtype=torch.int32), None, TypeError, "audio must be floating point.*int32.*32768"),
        (torch.zeros(9), None, ValueError, r"audio must be of shape \[2, N\], .*; got shape \[9\]"),
        (torch.zeros(3, 9), None, ValueError, r"audio must be of shape \[2, N\], .*; got shape \[3, 9\]"),
        (torch.zeros(2, 1, 9), None, ValueError, r"audio must be of shape .*; got shape \[2, 1, 9\]"),
        (torch.tensor([[0.0, 0.0], [0.0, NAN]]), None, ValueError, "finite; got nan in stream 1 at sample 1"),
        (
            torch.tensor([[-INFINITY, 0.0], [0.0, 0.0]]),
            None,
            ValueError,
            "finite; got -inf in stream 0 at sample 0",
        ),
        (torch.zeros(2, 9), [9, 10], ValueError, r"lengths must be 2 whole numbers from 0 to 9.*; got \[9, 10\]"),
        (torch.zeros(2, 9), [-1, 9], ValueError, r"lengths must be 2 whole numbers.*; got \[-1, 9\]"),
        (torch.zeros(2, 9), [9], ValueError, r"lengths must be 2 whole numbers.*; got \[9\]"),
        (torch.zeros(2, 9), torch.tensor([0.5, 0.5]), TypeError, "lengths must be 2 whole numbers.*; got tensor"),
        (torch.zeros(2, 9), [True, True], TypeError, r"lengths must be 2 whole numbers.*; got \[True, True\]"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_bad_audio_is_refused(audio, lengths, error, said):
    with pytest.raises(error, match=said):
        checked(audio, lengths)


@pytest.mark.parametrize("lengths", [None, [4, 4], (4, 4), np.array([4, 4]), torch.tensor([4, 4])], ids=repr)
def test_lengths_may_come_in_any_form(lengths):
    audio, lengths = checked(torch.ones(2, 4), lengths)
    assert (lengths.dtype, lengths.tolist()) == (np.int64, [4, 4])
    assert audio.tolist() == [[1.0] * 4] * 2


def test_one_stream_may_come_without_its_batch_dimension():
    assert check_audio(torch.zeros(7), batch_size=1).shape == (1, 7)
    with pytest.raises(ValueError, match=r"audio must be of shape \[1, N\] or \[N\]"):
        check_audio(torch.zeros(2, 7), batch_size=1)


def test_samples_past_a_streams_length_are_silenced_before_they_are_looked_at():
    given = torch.tensor([[1.0, 2.0, 3.0], [4.0, NAN, INFINITY]])
    audio, _ = checked(given, [3, 1])
    assert audio.tolist() == [[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]]
    assert given[1, 1].isnan()


@pytest.mark.parametrize(("audio", "peak"), [(torch.tensor([[0.5, -3.0]]), 3.0), (torch.zeros(2, 0), 0.0)])
def test_the_peak_is_the_largest_absolute_value(audio, peak):
    assert check_finite(audio) == peak
