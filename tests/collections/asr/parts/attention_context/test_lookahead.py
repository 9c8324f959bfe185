"""The look-ahead of a whole encoder, against gradients of the encoder itself."""

import pytest
import torch
from attention_cases import HAS_RC
from stream_cases import TinyModel

from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.attention_context.lookahead import frames_ahead

FRAMES = 40


def furthest_heard(model, context) -> list[int]:
    """For each encoder frame the last frame behind the subsampling on which it depends."""
    encoder = model.encoder
    encoder.att_context_size = context.as_list()
    frames = torch.randn(1, FRAMES, encoder.d_model, generator=torch.Generator().manual_seed(0), requires_grad=True)
    encoded, _ = encoder(audio_signal=frames, length=torch.tensor([FRAMES]), bypass_pre_encode=True)
    heard = []
    for frame in range(FRAMES):
        (gradient,) = torch.autograd.grad(encoded[0, :, frame].square().sum(), frames, retain_graph=True)
        heard.append(int(gradient[0].abs().sum(1).nonzero().max()))
    return heard


@pytest.mark.slow
@pytest.mark.parametrize("convolution", ["causal", [3, 1], None], ids=str)
@pytest.mark.parametrize(
    ("style", "context"),
    [
        ("regular", [8, 0]),
        ("regular", [-1, 0]),
        ("regular", [8, 3]),
        ("chunked_limited", [8, 0]),
        ("chunked_limited", [8, 3]),
        ("chunked_limited", [-1, 2]),
        ("chunked_limited_with_rc", [8, 4, 2]),
        ("chunked_limited_with_rc", [8, 4, 0]),
    ],
    ids=str,
)
def test_a_frame_depends_on_nothing_after_it(style, context, convolution):
    if style == "chunked_limited_with_rc" and not HAS_RC:
        pytest.skip("the installed NeMo has no style chunked_limited_with_rc")
    sizes = {"att_context_size": [-1, -1, -1] if len(context) == 3 else [context]}
    model = TinyModel(att_context_style=style, conv_context_size=convolution, **sizes)
    context = AttentionContext.parse(context)
    ahead = frames_ahead(model.encoder, context)
    allowed = [min(FRAMES - 1, frame + ahead[frame % len(ahead)]) for frame in range(FRAMES)]
    heard = furthest_heard(model, context)
    assert all(frame <= limit for frame, limit in zip(heard, allowed, strict=True))
    if context.chunk is None:  # chunks with a right context overlap, and the bound is what they could see at most
        assert heard == allowed


@pytest.mark.parametrize("context", [[-1, -1], [8, -1]], ids=str)
@pytest.mark.parametrize("style", ["regular", "chunked_limited"])
def test_an_unlimited_right_side_has_no_limit(style, context):
    model = TinyModel(att_context_style=style, att_context_size=[[8, 0]])
    assert frames_ahead(model.encoder, AttentionContext.parse(context)) is None


def test_global_tokens_of_local_attention_hear_everything():
    model = TinyModel()
    assert frames_ahead(model.encoder, AttentionContext(8, 0)) == (0,)
    model.encoder.global_tokens = 1
    assert frames_ahead(model.encoder, AttentionContext(8, 0)) is None
