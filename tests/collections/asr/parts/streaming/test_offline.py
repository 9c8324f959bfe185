"""Encoding whole utterances: the frames of the encoder itself, those of a stream, and a model that stays as it is."""

import copy

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from nemo.collections.asr.models import EncDecCTCModel
from nemo.collections.asr.parts.streaming.offline import encode
from nemo.collections.asr.parts.utils import streaming_utils
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, dynamic_context, set_dynamic_context


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model().train()


@torch.no_grad()
def encoder_output(model, audio, lengths, context) -> tuple[torch.Tensor, torch.Tensor]:
    """What the modules give when they are called by hand."""
    model = copy.deepcopy(model).eval()
    set_dynamic_context(model, context)
    features, feature_lengths = model.preprocessor(input_signal=audio, length=lengths)
    return model.encoder(audio_signal=features, length=feature_lengths)


def test_frames_are_those_of_the_encoder_and_zero_past_each_utterances_own(model, audio):
    signal, lengths = audio
    frames, frame_lengths = encode(model, signal, lengths, context=[8, 0])
    expected, expected_lengths = encoder_output(model, signal, lengths, [8, 0])
    assert frame_lengths.tolist() == expected_lengths.tolist() and frame_lengths[1] < frame_lengths[0]
    assert frames.shape[2] == frame_lengths.max()
    for utterance, count in enumerate(frame_lengths.tolist()):
        torch.testing.assert_close(frames[utterance, :, :count], expected[utterance, :, :count])
        assert not frames[utterance, :, count:].any()


@pytest.mark.parametrize("context", [[8, 0], "low", None])
@pytest.mark.parametrize("layers", [None, [], [1, 0], [-1], [-2]], ids=str)
def test_frames_and_layers_are_those_of_a_stream(model, audio, context, layers):
    signal, lengths = audio
    given, given_lengths = encode(model, signal, lengths, context, layers)
    with EncoderStream(model, context, batch_size=2, layers=layers) as stream:
        pushed, live_lengths = stream.push(signal, lengths)
        rest, rest_lengths = stream.finish()
    assert (live_lengths + rest_lengths).tolist() == given_lengths.tolist()
    given, pushed, rest = (frames if layers else [frames] for frames in (given, pushed, rest))
    assert len(given) == len(pushed) == 1 + len(layers or [])
    for output, first, last in zip(given, pushed, rest, strict=True):
        for utterance, counts in enumerate(zip(live_lengths.tolist(), rest_lengths.tolist(), strict=True)):
            live = torch.cat([first[utterance, :, : counts[0]], last[utterance, :, : counts[1]]], dim=1)
            torch.testing.assert_close(output[utterance, :, : sum(counts)], live, atol=1e-4, rtol=0)


def test_no_context_is_the_models_own(model, audio):
    signal, lengths = audio
    with dynamic_context(model, [3, 0]):
        own, _ = encode(model, signal, lengths)
    assert torch.equal(own, encode(model, signal, lengths, context=[3, 0])[0])
    assert not torch.equal(own, encode(model, signal, lengths, context=[16, 0])[0])


def state_of(model) -> tuple:
    encoder = model.encoder
    return (
        [module.training for module in model.modules()],
        [len(module._forward_hooks) for module in model.modules()],
        encoder.att_context_size,
        encoder.context.state(),
        encoder.sync_max_audio_length,
        model.mask_processor.left_context_size,
        model.context_sampler.count,
        {name: value.clone() for name, value in model.state_dict().items()},
    )


def same(one: tuple, other: tuple) -> bool:
    *values, weights = one
    *other_values, other_weights = other
    return values == other_values and all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_a_model_in_training_stays_as_it_is_and_no_random_number_is_used(model, audio):
    model.encoder.layers[0].eval()  # as where a part of the encoder is frozen
    before, random = state_of(model), torch.get_rng_state()
    first, _ = encode(model, *audio, context=[3, 0], layers=[0])
    again, _ = encode(model, *audio, context=[3, 0], layers=[0])
    assert same(state_of(model), before) and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(*frames) for frames in zip(first, again, strict=True))  # no dropout
    assert not first[0].requires_grad
    model.encoder.layers[0].train()


def test_an_error_in_the_encoder_leaves_the_model_as_it_is(model, audio):
    before = state_of(model)

    def fail(*_):
        raise RuntimeError("out of memory")

    hook = model.encoder.layers[-1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            encode(model, *audio, context=[3, 0], layers=[0, 1])
    finally:
        hook.remove()
    assert same(state_of(model), before)


def test_frames_can_be_an_input_to_training(model, audio):
    frames, _ = encode(model, *audio)
    weight = torch.ones(frames.shape[1], requires_grad=True)
    (frames.transpose(1, 2) @ weight).sum().backward()
    assert weight.grad is not None


def test_one_utterance_may_be_a_vector_of_numpy(model, audio):
    samples = audio[0][0].numpy()
    frames, lengths = encode(model, samples, context="low")
    assert torch.equal(frames, encode(model, audio[0][:1], context="low")[0]) and lengths.shape == (1,)
    assert torch.equal(frames, encode(model, samples.astype(np.float64), context="low")[0])


def test_no_audio_gives_what_a_stream_of_no_audio_gives(model):
    frames, lengths = encode(model, torch.zeros(0), context=[8, 0])
    with EncoderStream(model, [8, 0]) as stream:
        live, live_lengths = stream.finish()
    assert lengths.tolist() == live_lengths.tolist()
    torch.testing.assert_close(frames, live, atol=1e-4, rtol=0)


def test_local_attention_is_run_in_the_window_that_is_asked_for(tiny_model, audio):
    model = tiny_model(
        {"encoder.self_attention_model": "rel_pos_local_attn", "encoder.att_context_size": [16, 16]}
    ).eval()
    wide, narrow = (encode(model, *audio, context=context)[0] for context in (None, [2, 2]))
    set_dynamic_context(model, [2, 2])
    assert torch.equal(encode(model, *audio)[0], narrow) and not torch.equal(wide, narrow)


def test_a_recogniser_without_masking_is_encoded_too(audio):
    modules = "nemo.collections.asr.modules"
    encoder = dict(feat_in=16, n_layers=2, d_model=16, n_heads=2, subsampling_factor=8, subsampling="dw_striding")
    encoder |= dict(subsampling_conv_channels=4, att_context_size=[[8, 1], [16, 1]], conv_kernel_size=5)
    config = dict(
        preprocessor=dict(_target_=f"{modules}.AudioToMelSpectrogramPreprocessor", features=16, n_fft=512),
        encoder=dict(_target_=f"{modules}.ConformerEncoder", **encoder),
        decoder=dict(_target_=f"{modules}.ConvASRDecoder", feat_in=16, num_classes=2, vocabulary=["a", "b"]),
        labels=["a", "b"],
        sample_rate=16000,
    )
    frames, lengths = encode(EncDecCTCModel(OmegaConf.create(config)), *audio, context=[16, 1])
    assert frames.shape == (2, 16, 50) and lengths.tolist() == [50, 33] and frames.isfinite().all()


def test_a_wrapped_model_is_encoded_as_it_is_without_the_wrapper(tiny_model, audio):
    model = tiny_model()
    expected, _ = encode(model, *audio)
    assert torch.equal(encode(torch.compile(model), *audio)[0], expected)
    model.encoder = torch.compile(model.encoder)
    assert torch.equal(encode(model, *audio)[0], expected)


def test_masking_after_the_convolutions_masks_nothing(tiny_model, audio):
    model = tiny_model({"mask_position": "post_conv", "masking.mask_prob": 0.9}).train()
    frames, _ = encode(model, *audio)
    expected, _ = encoder_output(model, *audio, model.encoder.att_context_size)
    torch.testing.assert_close(frames[0], expected[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"audio": [0.0, 1.0]}, TypeError, "audio must be a torch.Tensor or a numpy.ndarray; got a list"),
        ({"audio": torch.zeros(1, 8, dtype=torch.int16)}, TypeError, "audio must be floating point"),
        ({"audio": torch.zeros(1, 1, 8)}, ValueError, r"audio must be \[B, N\].*got \[1, 1, 8\]"),
        ({"lengths": torch.tensor([8.0])}, TypeError, "lengths must be whole numbers"),
        ({"lengths": [8, 8]}, ValueError, r"lengths must be \[B\] = \[1\]; got \[2\]"),
        ({"lengths": [16001]}, ValueError, r"lengths must be from 0 to N = 16000; got \[16001\]"),
        ({"context": "lwo"}, ValueError, "Did you mean 'low'"),
        ({"layers": [2]}, ValueError, "layers"),
        ({"model": torch.nn.Linear(2, 2)}, TypeError, "ConformerEncoder"),
    ],
    ids=str,
)
def test_what_cannot_be_encoded_is_refused_and_changes_nothing(model, arguments, error, message):
    before = state_of(model)
    with pytest.raises(error, match=message):
        encode(**{"model": model, "audio": torch.zeros(1, 16000), **arguments})
    assert same(state_of(model), before)


def test_users_find_it_beside_the_other_helpers():
    assert streaming_utils.encode is encode
