"""The reach of an encoder: against the gradient of its output, against a stream's latency, against the subsampling."""

import math

import pytest
import torch
from torch import nn

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.attention_context.reach import (
    EncoderReach,
    chunk_frames,
    subsampled_lengths,
    subsampling_span,
)
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, dynamic_context


class SpeechEncoder(nn.Module):
    """A model with an encoder and a preprocessor."""

    def __init__(self, **encoder):
        super().__init__()
        torch.manual_seed(0)
        sizes = dict(feat_in=8, n_layers=2, d_model=16, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
        sizes |= dict(subsampling_conv_channels=8, causal_downsampling=True, conv_norm_type="layer_norm")
        sizes |= dict(conv_context_size="causal", conv_kernel_size=5, att_context_size=[[3, 0], [-1, 0]])
        self.encoder = ConformerEncoder(**{**sizes, **encoder})
        self.preprocessor = AudioToMelSpectrogramPreprocessor(features=8, normalize="NA", pad_to=0)

    @property
    def reach(self) -> EncoderReach:
        return EncoderReach.of(self.encoder, self.preprocessor)


def parse(*sizes: int) -> AttentionContext:
    return AttentionContext.parse(sizes)


def features_behind(model: SpeechEncoder, frame: int, context: AttentionContext, length: int = 400) -> tuple[int, int]:
    """The first and the last feature frame on which the encoder's output at `frame` depends."""
    encoder = model.encoder.double().eval()
    features = torch.randn(1, 8, length, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features.requires_grad_(True)
    with dynamic_context(model, context):
        output, _ = encoder(audio_signal=features, length=torch.tensor([length]))
    (output[0, :, frame] * torch.arange(1.0, 17.0)).sum().backward()
    used = features.grad[0].abs().sum(dim=0).nonzero()[:, 0]
    return int(used[0]), int(used[-1])


CHUNKED = {"att_context_style": "chunked_limited", "att_context_size": [[4, 1]]}


@pytest.mark.parametrize(
    "encoder, context, frame",
    [
        ({}, (3, 0), 30),
        ({}, (-1, 0), 30),
        ({"causal_downsampling": False, "conv_context_size": None}, (3, 1), 24),
        (CHUNKED, (4, 1), 30),
        (CHUNKED, (4, 1), 31),
        ({"subsampling": "stacking"}, (2, 0), 30),
        ({"subsampling": "striding", "subsampling_factor": 4, "causal_downsampling": False}, (2, 0), 40),
    ],
)
def test_the_span_of_the_stack_is_what_the_output_depends_on(encoder, context, frame):
    model, context = SpeechEncoder(**encoder), parse(*context)
    span = model.reach.feature_span(model.reach.stack_span(frame, context))
    assert features_behind(model, frame, context) == (max(0, span.first), span.last)


@pytest.mark.parametrize(
    "encoder, context",
    [({}, (3, 0)), ({"att_context_style": "chunked_limited", "att_context_size": [[8, 3]]}, (8, 3))],
)
def test_latency_is_that_of_a_stream_which_computes_each_frame_or_chunk_at_once(encoder, context):
    model = SpeechEncoder(**encoder).eval()
    with EncoderStream(model, list(context)) as stream:
        assert model.reach.latency(parse(*context)) == pytest.approx(stream.latency, abs=1e-9)


def test_reach_adds_up_over_layers_and_is_infinite_where_a_side_is_unlimited():
    reach = SpeechEncoder().reach
    assert reach.frames(parse(3, 0)) == (2 * (3 + 4), 0)
    assert reach.frames(parse(-1, 0)) == (math.inf, 0)
    assert reach.frames(parse(-1, -1)) == (math.inf, math.inf)
    assert reach.latency(parse(3, -1)) == math.inf


def test_reach_of_chunks_is_that_of_the_frame_which_sees_most():
    reach = SpeechEncoder(**CHUNKED, conv_kernel_size=1).reach
    # The last frame of a chunk looks back over its chunk and, in each layer, over two chunks more.
    assert reach.frames(parse(4, 1)) == (1 + 2 * 4, 1)


def test_positions_are_grouped_into_chunks_by_the_styles_that_have_them():
    assert chunk_frames(parse(4, 1), "chunked_limited") == 2
    assert chunk_frames(parse(4, -1), "chunked_limited") is None
    assert chunk_frames(parse(4, 1), "regular") is None
    assert chunk_frames(parse(6, 3, 2), "chunked_limited_with_rc") == 3
    assert chunk_frames(parse(-1, -1, -1), "chunked_limited_with_rc") is None


@pytest.mark.parametrize(
    "subsampling",
    [
        {},
        {"causal_downsampling": False},
        {"subsampling": "striding", "subsampling_factor": 4},
        {"subsampling": "stacking"},
        {"subsampling": "stacking_norm", "subsampling_factor": 4},
    ],
    ids=str,
)
def test_lengths_are_those_of_the_subsampling(subsampling):
    encoder = SpeechEncoder(**subsampling).encoder
    for length in [1, 7, 8, 9, 15, 16, 17, 399, 400]:
        _, expected = encoder.pre_encode(x=torch.zeros(1, length, 8), lengths=torch.tensor([length]))
        assert subsampled_lengths(encoder.pre_encode, torch.tensor([length])).tolist() == expected.tolist(), length


def test_an_encoder_without_subsampling_sees_its_own_frame():
    assert subsampling_span(nn.Linear(8, 16)) == (0, 0)
    assert subsampled_lengths(nn.Linear(8, 16), torch.tensor([5])).tolist() == [5]


def test_a_wrapper_that_masks_after_the_subsampling_changes_nothing(tiny_model):
    before, after = (tiny_model({"mask_position": position}) for position in ("pre_conv", "post_conv"))
    assert EncoderReach.of(after.encoder, after.preprocessor) == EncoderReach.of(before.encoder, before.preprocessor)


def test_an_unknown_subsampling_is_refused_by_name():
    encoder = SpeechEncoder(subsampling="vggnet", subsampling_factor=4, causal_downsampling=False).encoder
    with pytest.raises(ValueError, match=r"encoder\.subsampling must be one of striding.*; got 'vggnet'"):
        subsampling_span(encoder.pre_encode)
