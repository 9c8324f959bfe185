"""The parts of a layer in steps, against NeMo's modules and against attention computed pair by pair."""

import math

import pytest
import torch
from stream_cases import TinyModel
from torch import nn

from nemo.collections.asr.parts.streaming.conformer_layer_step import (
    AttentionStep,
    ConformerLayerStep,
    ConvolutionStep,
    FeedForwardStep,
    LinearStep,
)
from nemo.collections.asr.parts.streaming.conformer_step import sinusoids

CHANNELS, HEADS, KERNEL = 16, 2, 5


@pytest.fixture(scope="module")
def layer():
    return TinyModel().encoder.layers[0]


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_step_is_a_linear_layer_or_a_convolution_of_kernel_1(bias):
    linear, convolution, x = nn.Linear(6, 4, bias=bias), nn.Conv1d(6, 4, 1, bias=bias), torch.randn(5, 6)
    torch.testing.assert_close(LinearStep.of(linear)(x), linear(x))
    torch.testing.assert_close(LinearStep.of(convolution)(x), convolution(x.t()[None])[0].t())


@torch.inference_mode()
def test_a_feed_forward_step_adds_half_of_nemos_module(layer):
    x = torch.randn(7, CHANNELS)
    ours = FeedForwardStep(layer.norm_feed_forward1, layer.feed_forward1, layer.fc_factor).step(x)
    theirs = x + 0.5 * layer.feed_forward1(layer.norm_feed_forward1(x))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm", "fused_batch_norm"])
@torch.inference_mode()
def test_convolution_steps_give_the_frames_of_the_whole_sequence(norm):
    layer, x = TinyModel(conv_norm_type=norm).encoder.layers[0], torch.randn(2, 12, CHANNELS)
    step, room = ConvolutionStep(layer.norm_conv, layer.conv), 12
    cache, outputs = torch.zeros(2, KERNEL - 1 + room, CHANNELS), []
    for begin in range(0, 12, 3):
        piece = x[:, begin : begin + 3].reshape(6, CHANNELS)
        outputs.append(step.step(piece, cache[:, begin:], frames=3).reshape(2, 3, CHANNELS))
    theirs = x + layer.conv(layer.norm_conv(x))
    torch.testing.assert_close(torch.cat(outputs, dim=1), theirs, rtol=0, atol=1e-5)


@torch.inference_mode()
def attended_pair_by_pair(module: nn.Module, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Attention `[S, D]` of frames `x` `[S, D]`; frame i attends to the frames j with `visible[i, j]`."""
    frames, size = len(x), CHANNELS // HEADS
    projections = (module.linear_q, module.linear_k, module.linear_v)
    query, key, value = (projection(x).reshape(frames, HEADS, size) for projection in projections)
    output = torch.zeros(frames, HEADS, size)
    for head in range(HEADS):
        for i in range(frames):
            seen = [j for j in range(frames) if visible[i, j]]
            scores = []
            for j in seen:
                position = module.linear_pos(sinusoids(torch.tensor([float(i - j)]), CHANNELS))[0]
                content = (query[i, head] + module.pos_bias_u[head]) @ key[j, head]
                place = (query[i, head] + module.pos_bias_v[head]) @ position.reshape(HEADS, size)[head]
                scores.append((content + place) / math.sqrt(size))
            weights = torch.softmax(torch.stack(scores), dim=0)
            output[i, head] = sum(weight * value[j, head] for weight, j in zip(weights, seen, strict=True))
    return module.linear_out(output.flatten(1))


@pytest.mark.parametrize("frames", [1, 2, 4])
@torch.inference_mode()
def test_attention_steps_are_attention_computed_pair_by_pair(layer, frames):
    """Each step sees all frames so far, its own included."""
    total, x = 8, torch.randn(8, CHANNELS)
    step = AttentionStep(layer.norm_self_att, layer.self_attn)
    step.set_positions(sinusoids(torch.arange(total + frames - 1, -frames, -1, dtype=torch.float32), CHANNELS))
    cache = torch.zeros(1, 2, HEADS, total, CHANNELS // HEADS)
    ours = [
        step.step(x[begin : begin + frames], cache[..., : begin + frames, :], frames, None)
        for begin in range(0, total, frames)
    ]
    end = (torch.arange(total) // frames + 1) * frames
    visible = torch.arange(total)[None] < end[:, None]
    theirs = x + attended_pair_by_pair(layer.self_attn, layer.norm_self_att(x), visible)
    torch.testing.assert_close(torch.cat(ours), theirs, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_hidden_frames_do_not_matter(layer):
    step = AttentionStep(layer.norm_self_att, layer.self_attn)
    step.set_positions(sinusoids(torch.arange(4.0, -1, -1), CHANNELS))
    x, cache = torch.randn(1, CHANNELS), torch.randn(1, 2, HEADS, 5, CHANNELS // HEADS)
    short = step.step(x, cache[..., 2:, :].clone(), 1, None)
    mask = torch.zeros(1, 1, 1, 5)
    mask[..., :2] = torch.finfo(torch.float32).min / 4
    torch.testing.assert_close(step.step(x, cache, 1, mask), short, rtol=0, atol=1e-6)


def test_weights_are_referred_to_not_copied(layer):
    """But for the joint projection of query, key and value."""
    step = ConformerLayerStep(layer)
    referred = {
        step.feed_forward1.inner.weight: layer.feed_forward1.linear1.weight,
        step.attention.out.weight: layer.self_attn.linear_out.weight,
        step.convolution.out.weight: layer.conv.pointwise_conv2.weight,
        step.convolution.depthwise: layer.conv.depthwise_conv.weight,
        step.norm.weight: layer.norm_out.weight,
    }
    assert all(ours.data_ptr() == theirs.data_ptr() for ours, theirs in referred.items())
    assert step.attention.qkv.weight.shape == (3 * CHANNELS, CHANNELS)
