"""Contexts, lengths and blocks to try attention on, and NeMo's own masks for them."""

import inspect
from types import SimpleNamespace
from typing import NamedTuple

import torch
from hypothesis import strategies as st

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder, _nemo_create_masks, _nemo_init
from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow
from nemo.collections.asr.parts.submodules.multi_head_attention import (
    RelPositionalEncoding,
    RelPositionMultiHeadAttention,
)

CHANNELS, HEADS = 16, 2
FRAMES = (1, 2, 3, 7, 33, 63, 64, 65, 96, 130)
STYLES = ("regular", "chunked_limited", "chunked_limited_with_rc")
HAS_RC = "att_chunk_context_size" in inspect.signature(_nemo_init).parameters
"""Whether the installed NeMo has the style `chunked_limited_with_rc`."""


class Case(NamedTuple):
    style: str
    context: list[int]
    frames: int
    lengths: list[int]
    size: int | None
    """Queries in a block; None for the default."""

    @property
    def window(self) -> AttentionWindow:
        return AttentionWindow.of_context(self.context, self.style)


@st.composite
def attention_cases(draw) -> Case:
    style = draw(st.sampled_from(STYLES if HAS_RC else STYLES[:2]))
    if style == "regular":
        context = [draw(st.sampled_from((-1, 0, 1, 5, 40, 64, 200))), draw(st.sampled_from((-1, 0, 0, 1, 3, 50)))]
    elif style == "chunked_limited":
        right = draw(st.sampled_from((0, 1, 6, 13, 89)))
        left = draw(st.sampled_from((-1, 0, 1, 4)))
        context = [left if left < 0 else left * (right + 1), right]
    else:
        context = [draw(st.sampled_from((0, 3, 50))), draw(st.sampled_from((1, 2, 13, 90))), draw(st.integers(0, 9))]
    frames = draw(st.sampled_from(FRAMES))
    lengths = draw(st.lists(st.integers(0, frames), min_size=1, max_size=3))
    return Case(style, context, frames, lengths, draw(st.sampled_from((None, 1, 4, 7, 16))))


def nemo_mask(style: str, context: list[int], lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """`[B, S, S]`, True where NeMo hides a key from a query."""
    encoder = SimpleNamespace(self_attention_model="rel_pos", att_context_style=style)
    return _nemo_create_masks(encoder, context, lengths, frames, None, torch.device("cpu"))[1]


def attention_module(dropout: float = 0.0, **arguments) -> RelPositionMultiHeadAttention:
    """NeMo's attention with position biases that are not 0."""
    torch.manual_seed(0)
    module = RelPositionMultiHeadAttention(HEADS, CHANNELS, dropout, pos_bias_u=None, pos_bias_v=None, **arguments)
    torch.nn.init.normal_(module.pos_bias_u)
    torch.nn.init.normal_(module.pos_bias_v)
    return module


def position_embeddings(frames: int) -> torch.Tensor:
    """`[1, 2 * frames - 1, D]`, as the encoder makes them."""
    table = RelPositionalEncoding(CHANNELS, dropout_rate=0.0)
    table.extend_pe(frames + 3, torch.device("cpu"), torch.float32)
    return table(torch.zeros(1, frames, CHANNELS))[1]


def tiny_encoder(seed: int = 0, **arguments) -> ConformerEncoder:
    """An encoder of two layers that computes everything in blocks unless told otherwise."""
    torch.manual_seed(seed)
    chosen = {
        "feat_in": 8,
        "n_layers": 2,
        "d_model": CHANNELS,
        "n_heads": HEADS,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 4,
        "causal_downsampling": True,
        "att_context_size": [[8, 0], [24, 0], [-1, 0]],
        "conv_kernel_size": 5,
        "conv_context_size": "causal",
        "conv_norm_type": "layer_norm",
        "dropout": 0.0,
        "dropout_pre_encoder": 0.0,
        "dropout_emb": 0.0,
        "blockwise_attention": True,
        **arguments,
    }
    return ConformerEncoder(**chosen)
