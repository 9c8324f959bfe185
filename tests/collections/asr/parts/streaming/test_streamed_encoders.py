"""Every causal encoder streams, whatever is wrapped around it."""

import copy

import pytest
import torch
from stream_cases import TinyModel, assert_same_frames, batch, offline, streamed
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from nemo.collections.asr.modules.conformer_encoder import ConformerMultiLayerFeatureExtractor
from nemo.collections.asr.parts.streaming import EncoderStream


@pytest.mark.parametrize(
    "changes",
    [
        dict(use_bias=False),
        dict(conv_norm_type="batch_norm"),
        dict(conv_norm_type="fused_batch_norm"),
        dict(untie_biases=False),
        dict(xscaling=False),
        dict(feat_out=12),
        dict(conv_kernel_size=9, n_heads=4),
        dict(subsampling="striding"),
        dict(subsampling_factor=4),
        dict(subsampling_factor=2, ff_expansion_factor=2),
        dict(subsampling="stacking"),
        dict(subsampling="stacking_norm", subsampling_factor=4),
        dict(subsampling_factor=1),
        dict(use_pytorch_sdpa=True),
    ],
    ids=str,
)
def test_every_causal_encoder(changes):
    model = TinyModel(**changes)
    audio, lengths = batch([30000])
    ours = streamed(EncoderStream(model, [8, 0], frames_per_step=2), audio, lengths, [2500])
    assert_same_frames(ours, offline(model, [8, 0], audio, lengths))


def test_groups_of_stacked_frames_are_whole_in_each_stream():
    """Offline, the length of one utterance decides about the last group of another one."""
    model = TinyModel(subsampling="stacking")
    audio, lengths = batch([30000, 17000])
    ours = streamed(EncoderStream(model, [8, 0], batch_size=2), audio, lengths, [700])
    rows = zip(audio, lengths, strict=True)
    alone = [offline(model, [8, 0], row[None, :count], count[None])[0] for row, count in rows]
    assert_same_frames(ours, alone)


@pytest.mark.parametrize("position", ["pre_conv", "post_conv"])
def test_pretraining_models_whichever_way_they_mask(tiny_model, position):
    model = tiny_model({"mask_position": position})
    audio, lengths = batch([30000])
    ours = streamed(EncoderStream(model, [8, 0]), audio, lengths, [1280])
    assert_same_frames(ours, offline(model, [8, 0], audio, lengths))


def test_half_precision(regular):
    model = copy.deepcopy(regular).to(torch.bfloat16)
    audio, lengths = batch([30000])
    (ours,) = streamed(EncoderStream(model, [8, 0]), audio, lengths, [1280])
    (exact,) = offline(regular, [8, 0], audio, lengths)
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - exact).abs().mean() < 0.05


def test_autocast_does_not_touch_the_frames(regular):
    audio, lengths = batch([20000])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = streamed(EncoderStream(regular, [8, 0]), audio, lengths, [1280])
    assert_same_frames(ours, offline(regular, [8, 0], audio, lengths))


class Around(nn.Module):
    """A wrapper that keeps the model as `module`, as DDP does."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module


def extractor(encoder: nn.Module) -> nn.Module:
    return ConformerMultiLayerFeatureExtractor(encoder, [0])


@pytest.mark.parametrize(
    "around_encoder",
    [
        (),
        (torch.compile,),
        (checkpoint_wrapper,),
        (Around,),
        (extractor,),
        (checkpoint_wrapper, extractor),
        (extractor, torch.compile, checkpoint_wrapper),
    ],
    ids=lambda wrappers: " in ".join(wrapper.__name__ for wrapper in wrappers) or "bare",
)
@pytest.mark.parametrize(
    "around_model",
    [(), (torch.compile,), (Around,), (checkpoint_wrapper,), (torch.compile, checkpoint_wrapper, Around)],
    ids=lambda wrappers: " in ".join(wrapper.__name__ for wrapper in wrappers) or "bare",
)
def test_wrapped_models_and_encoders_stream(wrappable, around_model, around_encoder):
    audio, lengths, expected = wrappable
    wrapped = TinyModel()
    for wrap in around_encoder:
        wrapped.encoder = wrap(wrapped.encoder)
    for wrap in around_model:
        wrapped = wrap(wrapped)
    stream = EncoderStream(wrapped, "own")
    assert stream.context.as_list() == [24, 0]
    assert_same_frames(streamed(stream, audio, lengths, [1280]), expected)


@pytest.fixture(scope="module")
def wrappable():
    """Audio, and the offline frames of a `TinyModel`."""
    audio, lengths = batch([9000])
    return audio, lengths, offline(TinyModel(), [24, 0], audio, lengths)


def test_layers_that_are_wrapped_one_by_one_stream(regular):
    model = copy.deepcopy(regular)
    for index, layer in enumerate(model.encoder.layers):
        model.encoder.layers[index] = checkpoint_wrapper(layer)
    audio, lengths = batch([9000])
    ours = streamed(EncoderStream(model, [8, 0]), audio, lengths, [1280])
    assert_same_frames(ours, offline(regular, [8, 0], audio, lengths))


def test_presets_of_the_model(regular):
    assert EncoderStream(regular, "own").context.as_list() == [24, 0]


def test_no_context_means_that_of_the_encoder(regular):
    assert EncoderStream(regular).context.as_list() == [8, 0]
