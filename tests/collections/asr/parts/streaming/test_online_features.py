"""Log-mel frames from pieces of audio are those of the preprocessor on the whole signal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import assert_same_frames, collect

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.parts.streaming import OnlineFeatures
from nemo.utils import logging

STREAMING = dict(normalize="NA", window_size=0.025, window_stride=0.01, features=80, n_fft=512, pad_to=0)
"""As the streaming configs set the preprocessor."""

BOUNDARIES = [0, 1, 2, 159, 160, 161, 199, 200, 201, 319, 320, 321, 359, 360, 361, 399, 400, 401, 511, 512, 513, 1600]
"""Samples at which something changes: a hop, half a window, a window, a Fourier frame."""


def preprocessor(**changes) -> AudioToMelSpectrogramPreprocessor:
    return AudioToMelSpectrogramPreprocessor(**{**STREAMING, **changes}).eval()


def speechlike(samples: int, seed: int = 0) -> torch.Tensor:
    """Noise and tones under an envelope that spans 80 dB, with stretches of digital silence, `[samples]`."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / 16000
    tones = sum(torch.sin(2 * torch.pi * pitch * time + pitch) for pitch in (140.0, 711.0, 2900.0))
    loudness = 10 ** (-4 * torch.rand(samples // 2000 + 1, generator=generator)).repeat_interleave(2000)[:samples]
    loud = (torch.rand(samples // 3000 + 1, generator=generator) > 0.2).float().repeat_interleave(3000)[:samples]
    return 0.2 * loudness * loud * (tones + torch.randn(samples, generator=generator))


def offline(module, audio: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
    """The valid feature frames `[D, T]` of each utterance."""
    features, counts = module(input_signal=audio, length=lengths)
    return [row[:, :count] for row, count in zip(features, counts, strict=True)]


def online(stream: OnlineFeatures, audio: torch.Tensor, lengths: torch.Tensor, cuts: list[int]) -> list[torch.Tensor]:
    """The same, pushed in pieces of the given sizes (the last size for all that follow)."""
    pieces = [[] for _ in lengths]
    begin = 0
    for cut in [*cuts, *[cuts[-1]] * (audio.shape[1] // max(1, cuts[-1]) + 1)]:
        own = (lengths - begin).clamp(0, cut)
        collect(pieces, stream.push(audio[:, begin : begin + cut], own.clamp(max=max(0, audio.shape[1] - begin))))
        begin += cut
    collect(pieces, stream.finish())
    return [torch.cat(row, dim=-1) for row in pieces]


@pytest.mark.parametrize("cuts", [[160], [16000], [10**6], [1, 7, 4000, 399, 33, 1281]], ids=str)
def test_frames_are_those_of_the_whole_signal(cuts):
    module = preprocessor()
    audio = torch.stack([speechlike(40000, seed) for seed in range(3)])
    lengths = torch.tensor([40000, 31111, 1234])
    ours = online(OnlineFeatures(module, batch_size=3), audio, lengths, cuts)
    assert_same_frames(ours, offline(module, audio, lengths))


def test_single_samples_give_the_frames_of_the_whole_signal():
    module = preprocessor()
    audio, lengths = speechlike(1500)[None], torch.tensor([1500])
    assert_same_frames(online(OnlineFeatures(module), audio, lengths, [1]), offline(module, audio, lengths))


def test_minutes_at_once_give_the_frames_of_the_whole_signal():
    module = preprocessor()
    audio, lengths = speechlike(120 * 16000)[None], torch.tensor([120 * 16000])
    assert_same_frames(online(OnlineFeatures(module), audio, lengths, [10**7]), offline(module, audio, lengths))


def test_recorded_speech_gives_the_frames_of_the_whole_signal(recorded_samples):
    module = preprocessor()
    lengths = torch.tensor([len(samples) for samples in recorded_samples])
    audio = torch.zeros(len(lengths), int(lengths.max()))
    for row, samples in zip(audio, recorded_samples, strict=True):
        row[: len(samples)] = torch.from_numpy(samples)
    stream = OnlineFeatures(module, batch_size=len(lengths))
    assert_same_frames(online(stream, audio, lengths, [1280]), offline(module, audio, lengths))


@pytest.mark.parametrize("cuts", [[160], [37], [10**4]], ids=str)
def test_every_short_length_gives_as_many_frames_as_the_preprocessor(cuts):
    module = preprocessor()
    audio = torch.stack([speechlike(max(BOUNDARIES), seed) for seed in range(len(BOUNDARIES))])
    lengths = torch.tensor(BOUNDARIES)
    stream = OnlineFeatures(module, batch_size=len(lengths))
    assert_same_frames(online(stream, audio, lengths, cuts), offline(module, audio, lengths))


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 4000), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 1500), min_size=1, max_size=12),
    tail=st.integers(100, 2000),
)
def test_any_cuts_of_any_lengths_give_the_frames_of_the_whole_signal(lengths, cuts, tail):
    module = preprocessor()
    longest = max(1, *lengths)
    audio = torch.stack([speechlike(longest, seed) for seed in range(len(lengths))])
    stream = OnlineFeatures(module, batch_size=len(lengths))
    lengths = torch.tensor(lengths)
    assert_same_frames(online(stream, audio, lengths, [*cuts, tail]), offline(module, audio, lengths))


@pytest.mark.parametrize(
    "changes",
    [
        dict(preemph=None),
        dict(log=False),
        dict(mag_power=1.0),
        dict(log_zero_guard_type="clamp", log_zero_guard_value="eps"),
        dict(log_zero_guard_value="tiny"),
        dict(window="hamming", n_fft=1024, window_size=0.032),
        dict(window_size=0.0101, window_stride=0.0137, n_fft=256),
        dict(normalize=None, features=64, lowfreq=100, highfreq=7000),
        dict(normalize={"fixed_mean": [-9.0 + 0.1 * n for n in range(80)], "fixed_std": [3.0 + n for n in range(80)]}),
        dict(normalize={"fixed_mean": [0.5] * 80, "fixed_std": [2.0] * 80}, log=False),
        dict(sample_rate=8000, n_fft=256),
    ],
    ids=str,
)
def test_every_setting_that_can_be_streamed_is_followed(changes):
    module = preprocessor(**changes)
    audio = torch.stack([speechlike(9000, seed) for seed in range(2)])
    lengths = torch.tensor([9000, 7777])
    stream = OnlineFeatures(module, batch_size=2)
    assert_same_frames(online(stream, audio, lengths, [501]), offline(module, audio, lengths))


def test_a_frame_comes_with_the_last_sample_under_its_window():
    stream = OnlineFeatures(preprocessor())
    counts = [int(stream.push(piece)[1]) for piece in torch.split(speechlike(520), [199, 1, 159, 1, 160])]
    assert counts == [0, 1, 0, 1, 1]


def test_dither_is_off_in_training_too():
    module = preprocessor(dither=0.1)
    audio, lengths = speechlike(4000)[None], torch.tensor([4000])
    expected = offline(module, audio, lengths)
    assert_same_frames(online(OnlineFeatures(module.train()), audio, lengths, [700]), expected)
    assert module.training


def test_streams_that_end_and_begin_at_different_times_do_not_touch_one_another():
    module = preprocessor()
    first, second, third = speechlike(5000, 1), speechlike(3000, 2), speechlike(2100, 3)
    stream = OnlineFeatures(module, batch_size=2)
    pieces = [[], []]
    collect(pieces, stream.push(torch.stack([first[:3000], second])))
    collect(pieces, stream.finish(1))
    stream.reset(1)
    ended = torch.cat(pieces[1], dim=-1)
    pieces[1] = []
    collect(pieces, stream.push(torch.stack([first[3000:], third[:2000]]), [2000, 2000]))
    collect(pieces, stream.push(torch.stack([first[:100], third[2000:]]), [0, 100]))
    collect(pieces, stream.finish())
    ours = [torch.cat(pieces[0], dim=-1), ended, torch.cat(pieces[1], dim=-1)]
    theirs = [offline(module, audio[None], torch.tensor([len(audio)]))[0] for audio in (first, second, third)]
    assert_same_frames(ours, theirs)


def test_a_reset_stream_begins_anew():
    stream = OnlineFeatures(preprocessor())
    audio = speechlike(3000)
    first = stream.push(audio)[0]
    stream.finish()
    stream.reset()
    torch.testing.assert_close(stream.push(audio)[0], first, rtol=0, atol=0)


def test_the_callers_buffer_may_be_overwritten():
    module = preprocessor()
    audio, buffer = speechlike(2000), np.zeros(500, dtype=np.float32)
    stream = OnlineFeatures(module)
    pieces = [[]]
    for begin in range(0, 2000, 500):
        buffer[:] = audio[begin : begin + 500]
        collect(pieces, stream.push(buffer))
        buffer[:] = 0.5
    collect(pieces, stream.finish())
    assert_same_frames([torch.cat(pieces[0], dim=-1)], offline(module, audio[None], torch.tensor([2000])))


def test_any_view_of_an_array_will_do():
    module, audio = preprocessor(), speechlike(2000)
    backwards = audio.numpy()[::-1].copy()[::-1]
    backwards.flags.writeable = False
    ours = OnlineFeatures(module).push(backwards)[0]
    torch.testing.assert_close(ours, OnlineFeatures(module).push(audio)[0], rtol=0, atol=0)


def test_frames_follow_the_type_of_the_model():
    stream = OnlineFeatures(preprocessor().to(torch.bfloat16))
    frames, _ = stream.push(speechlike(2000).double())
    expected = preprocessor()(input_signal=speechlike(2000)[None], length=torch.tensor([2000]))[0]
    assert frames.dtype == torch.bfloat16
    assert (frames.float() - expected[:, :, : frames.shape[-1]]).abs().max() < 0.05


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            dict(normalize="per_feature"),
            "normalize must be 'NA', or fixed_mean and fixed_std, in a stream; got 'per_feature'.*whole signal",
        ),
        (
            dict(normalize="all_features"),
            "normalize must be 'NA', or fixed_mean and fixed_std, in a stream; got 'all_features'",
        ),
        (dict(exact_pad=True), "exact_pad must be false in a stream; got true"),
        (dict(frame_splicing=3), "frame_splicing must be 1 in a stream; got 3"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_streamed_is_refused_with_the_reason(changes, said):
    with pytest.raises(ValueError, match=said):
        OnlineFeatures(preprocessor(**changes))


@pytest.mark.parametrize("module", [None, torch.nn.Identity()], ids=["none", "another kind"])
def test_what_is_not_a_mel_preprocessor_is_refused(module):
    with pytest.raises(TypeError, match=f"preprocessor must be .*; got {type(module).__name__}"):
        OnlineFeatures(module)


def test_what_lies_past_a_streams_length_may_be_anything():
    audio = torch.full((2, 500), float("nan"))
    audio[0] = speechlike(500)
    audio[1, :300] = speechlike(300)
    frames, lengths = OnlineFeatures(preprocessor(), batch_size=2).push(audio, [500, 300])
    assert lengths.tolist() == [2, 1]
    assert frames.isfinite().all()


def test_samples_for_a_finished_stream_are_refused():
    stream = OnlineFeatures(preprocessor(), batch_size=2)
    stream.push(torch.zeros(2, 400))
    stream.finish(1)
    with pytest.raises(ValueError, match=r"no samples of a finished stream; got some for stream 1. Call reset\(1\)"):
        stream.push(torch.zeros(2, 400))
    assert stream.push(torch.zeros(2, 400), [400, 0])[1].tolist() == [2, 0]


@pytest.mark.parametrize(("stream", "error"), [(2, ValueError), (-1, ValueError), (0.0, TypeError), (True, TypeError)])
def test_a_stream_that_there_is_not_is_refused(stream, error):
    with pytest.raises(error, match="stream must be a whole number from 0 to 1, or None for all streams; got"):
        OnlineFeatures(preprocessor(), batch_size=2).finish(stream)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_batch_size_that_is_none_is_refused(size, error):
    with pytest.raises(error, match="batch_size must be a whole number >= 1; got"):
        OnlineFeatures(preprocessor(), batch_size=size)


def test_unscaled_samples_are_warned_of_once(monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *args, **kwargs: warnings.append(str(message)))
    stream = OnlineFeatures(preprocessor())
    stream.push(torch.full((400,), 3000.0))
    stream.push(torch.full((400,), 3000.0))
    assert len(warnings) == 1 and "got a peak of 3000. Divide 16-bit PCM by 32768" in warnings[0]


def test_bad_audio_changes_nothing():
    module, good = preprocessor(), torch.stack([speechlike(3000, seed) for seed in range(2)])
    stream, pieces = OnlineFeatures(module, batch_size=2), [[], []]
    collect(pieces, stream.push(good[:, :777]))
    silence = torch.zeros(2, 9)
    for audio, lengths in ((silence + torch.nan, None), (silence, [9, 10]), (silence[0], None)):
        with pytest.raises(ValueError, match="must be"):
            stream.push(audio, lengths)
    collect(pieces, stream.push(good[:, 777:]))
    collect(pieces, stream.finish())
    assert_same_frames([torch.cat(row, dim=-1) for row in pieces], offline(module, good, torch.tensor([3000, 3000])))
