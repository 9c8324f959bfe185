"""Streams end, begin anew and close, and leave the model and the caller's tensors as they were."""

import copy
import weakref

import pytest
import torch
from stream_cases import TinyModel, assert_same_frames, batch, collect, noise, offline, streamed
from torch import nn

from nemo.collections.asr.parts.streaming import EncoderStream


def test_a_finished_stream_has_no_more(regular):
    stream = EncoderStream(regular, batch_size=2)
    stream.push(torch.zeros(2, 5000))
    assert stream.finish(0)[1].tolist() == [1, 0]
    assert stream.finish()[1].tolist() == [0, 1]
    assert stream.finish()[1].tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"no samples of a finished stream; got some for stream 0. Call reset\(0\)"):
        stream.push(torch.zeros(2, 5000))


def test_a_reset_begins_anew(regular):
    audio, lengths = batch([20000])
    stream = EncoderStream(regular, [8, 0])
    stream.push(noise(7777, seed=9))
    stream.reset()
    assert_same_frames(streamed(stream, audio, lengths, [1280]), offline(regular, [8, 0], audio, lengths))


def test_changed_weights_hold_after_a_reset():
    model = TinyModel()
    stream = EncoderStream(model, [8, 0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    stream.reset()
    audio, lengths = batch([20000])
    assert_same_frames(streamed(stream, audio, lengths, [1280]), offline(model, [8, 0], audio, lengths))


def frames_after_reset(stream: EncoderStream, model: TinyModel) -> None:
    stream.reset()
    audio, lengths = batch([9000])
    assert_same_frames(streamed(stream, audio, lengths, [1280]), offline(model, [8, 0], audio, lengths))


@pytest.mark.parametrize("close", [lambda stream: stream.close(), lambda stream: stream.__exit__(None, None, None)])
def test_a_closed_stream_says_so_until_it_is_reset(regular, close):
    stream = EncoderStream(regular, [8, 0])
    stream.push(noise(3000))
    close(stream)
    for call in (lambda: stream.push(noise(3000)), stream.finish, lambda: stream.reset(0), stream.memory):
        with pytest.raises(ValueError, match=r"the stream is closed; call reset\(\) to open it again"):
            call()
    frames_after_reset(stream, regular)


def test_a_stream_may_be_closed_again_within_and_after_its_block(regular):
    with EncoderStream(regular, [8, 0]) as stream:
        stream.push(noise(3000))
        stream.close()
        stream.close()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.push(noise(3000))
    frames_after_reset(stream, regular)


def test_a_stream_is_closed_by_an_error_in_its_block(regular):
    with pytest.raises(KeyError), EncoderStream(regular, [8, 0]) as stream:
        raise KeyError("of the caller")
    with pytest.raises(ValueError, match="closed"):
        stream.finish()


def test_a_closed_stream_frees_its_caches_and_keeps_its_description(regular):
    stream = EncoderStream(regular, [8, 0], batch_size=2)
    cache = weakref.ref(stream._batch.state.attention)
    described = stream.context, stream.latency, stream.samples_per_step, stream.sample_rate
    stream.close()
    assert cache() is None
    assert (stream.context, stream.latency, stream.samples_per_step, stream.sample_rate) == described


@pytest.mark.parametrize("training", [False, True])
def test_the_model_stays_as_it_was(training):
    model = TinyModel(conv_norm_type="batch_norm", dropout=0.5).train(training)
    model.encoder.layers[0].eval()
    weights = copy.deepcopy(model.state_dict())
    context, settings = list(model.encoder.att_context_size), copy.deepcopy(model.encoder.streaming_cfg)
    modes = [module.training for module in model.modules()]
    audio, lengths = batch([20000])
    ours = streamed(EncoderStream(model, [16, 0]), audio, lengths, [1280])
    assert modes == [module.training for module in model.modules()]
    assert (context, settings) == (list(model.encoder.att_context_size), model.encoder.streaming_cfg)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert_same_frames(ours, offline(model, [16, 0], audio, lengths))


def test_nothing_is_collective(regular, monkeypatch):
    def collective(*args, **kwargs):
        raise AssertionError("a collective was called")

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for name in ("all_reduce", "all_gather", "broadcast", "barrier"):
        monkeypatch.setattr(torch.distributed, name, collective)
    stream = EncoderStream(regular, "unlimited")
    assert stream.push(noise(5000))[1].item() + stream.finish()[1].item() == 5


def test_frames_may_be_an_input_to_training(regular):
    frames, _ = EncoderStream(regular).push(noise(9000))
    probe = nn.Linear(16, 3)
    probe(frames.transpose(1, 2)).sum().backward()
    assert probe.weight.grad.abs().sum() > 0


def test_the_callers_buffer_may_be_overwritten(regular):
    audio, lengths = batch([16000])
    stream, buffer, pieces = EncoderStream(regular, [8, 0]), torch.zeros(1, 400), [[]]
    for begin in range(0, 16000, 400):
        buffer.copy_(audio[:, begin : begin + 400])
        collect(pieces, stream.push(buffer))
        buffer.fill_(0.5)
    collect(pieces, stream.finish())
    assert_same_frames([torch.cat(pieces[0], dim=-1)], offline(regular, [8, 0], audio, lengths))


@pytest.mark.parametrize(
    ("audio", "error"),
    [
        (torch.full((1, 500), float("nan")), ValueError),
        (torch.full((1, 500), float("inf")), ValueError),
        (torch.zeros(1, 500, dtype=torch.int16), TypeError),
        (torch.zeros(2, 500), ValueError),
        ("audio", TypeError),
    ],
    ids=["nan", "inf", "integers", "batch", "text"],
)
def test_bad_audio_leaves_the_stream_usable(regular, audio, error):
    good, lengths = batch([20000])
    stream, pieces = EncoderStream(regular, [8, 0]), [[]]
    collect(pieces, stream.push(good[:, :7000]))
    with pytest.raises(error):
        stream.push(audio)
    collect(pieces, stream.push(good[:, 7000:]))
    collect(pieces, stream.finish())
    assert_same_frames([torch.cat(pieces[0], dim=-1)], offline(regular, [8, 0], good, lengths))
