"""Subsampling in steps gives the encoder frames of the whole signal."""

import pytest
import torch
from stream_cases import TinyModel
from torch import nn

from nemo.collections.asr.parts.streaming.subsampling_step import (
    StackingStep,
    StreamEdges,
    StridingStep,
    SubsamplingStep,
)
from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling

CHANNELS = 16
"""Mel channels."""


def pre_encode(kind: str, factor: int) -> nn.Module:
    return TinyModel(n_layers=1, subsampling=kind, subsampling_factor=factor).encoder


@torch.inference_mode()
def in_steps(step: SubsamplingStep, features: torch.Tensor, frames: int) -> torch.Tensor:
    """Encoder frames `[S, D]` of features `[T, mel channels]`, `frames` a step."""
    taken, memory, outputs = frames * step.factor, step.new_memory(1), []
    count = step.frames_of(len(features) + step.lead)
    padded = torch.cat((torch.randn(step.lead, CHANNELS), features, torch.randn(taken, CHANNELS)))
    for begin in range(0, len(features) + step.lead, taken):
        numbers = (0, step.lead if begin == 0 else 0, min(taken, len(features) + step.lead - begin))
        past, first, stop = (torch.tensor([number]) for number in numbers)
        edges = StreamEdges(past=past, first=first, stop=stop)
        outputs.append(step.step(padded[None, begin : begin + taken], memory, edges)[0])
    return torch.cat(outputs)[:count]


@torch.no_grad()
def offline(encoder: nn.Module, features: torch.Tensor) -> torch.Tensor:
    if isinstance(encoder.pre_encode, nn.Linear):
        return encoder.pre_encode(features)
    frames, lengths = encoder.pre_encode(x=features[None], lengths=torch.tensor([len(features)]))
    return frames[0, : lengths[0]]


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 50])
@pytest.mark.parametrize(("kind", "factor"), [("dw_striding", 2), ("dw_striding", 8), ("striding", 4)])
def test_strided_convolutions_give_the_frames_of_the_whole_signal(kind, factor, length, frames):
    """Whatever lies before the beginning and past the end."""
    encoder, features = pre_encode(kind, factor), torch.randn(length, CHANNELS)
    ours, theirs = in_steps(SubsamplingStep.of(encoder), features, frames), offline(encoder, features)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [8, 16, 50])
@pytest.mark.parametrize(("kind", "factor"), [("stacking", 4), ("stacking_norm", 8), ("dw_striding", 1)])
def test_stacked_frames_give_the_frames_of_the_whole_signal(kind, factor, length):
    encoder, features = pre_encode(kind, factor), torch.randn(length, CHANNELS)
    ours = in_steps(SubsamplingStep.of(encoder), features, frames=2)
    assert len(ours) == length // factor
    torch.testing.assert_close(ours, offline(encoder, features)[: len(ours)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_number_of_frames_is_that_of_the_whole_signal(factor):
    encoder = pre_encode("dw_striding", factor)
    step = SubsamplingStep.of(encoder)
    for length in range(1, 40):
        assert step.frames_of(length + step.lead) == len(offline(encoder, torch.zeros(length, CHANNELS)))


@torch.inference_mode()
def test_steps_without_edges_are_those_in_the_middle_of_a_stream():
    step = SubsamplingStep.of(pre_encode("dw_striding", 8))
    features = torch.randn(2, 16, CHANNELS)
    memory = [torch.randn_like(part) for part in step.new_memory(2)]
    copies = [part.clone() for part in memory]
    whole = StreamEdges(past=torch.tensor([5, 9]), first=torch.tensor([0, 0]), stop=torch.tensor([16, 16]))
    assert torch.equal(step.step(features, memory, None), step.step(features, copies, whole))
    assert all(torch.equal(*pair) for pair in zip(memory, copies, strict=True))


def test_the_kind_of_subsampling_decides_the_kind_of_step():
    kinds = {"dw_striding": StridingStep, "striding": StridingStep, "stacking": StackingStep}
    for kind, expected in kinds.items():
        assert type(SubsamplingStep.of(pre_encode(kind, 4))) is expected


def test_what_is_no_causal_subsampling_is_refused():
    encoder = pre_encode("dw_striding", 8)
    encoder.pre_encode = nn.Identity()
    with pytest.raises(ValueError, match="encoder.pre_encode must be causal striding .* in a stream; got Identity"):
        SubsamplingStep.of(encoder)
    settings = dict(subsampling_factor=8, feat_in=16, feat_out=16, conv_channels=4, activation=nn.ReLU())
    with pytest.raises(ValueError, match="causal_downsampling must be true in a stream; got false"):
        StridingStep(ConvSubsampling(subsampling="dw_striding", is_causal=False, **settings))
    with pytest.raises(ValueError, match="encoder.subsampling must be .*; got 'vggnet'"):
        StridingStep(ConvSubsampling(subsampling="vggnet", is_causal=False, **settings))
