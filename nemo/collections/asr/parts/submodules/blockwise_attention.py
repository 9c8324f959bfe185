"""Relative-position attention whose cost follows the context: scores are computed in blocks of queries.

NeMo's `RelPositionMultiHeadAttention` computes the scores of all pairs of frames and hides those outside the context.
Here each block of queries computes the scores of the keys that it sees. Weights, biases and outputs are NeMo's.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow
from nemo.collections.asr.parts.submodules.blockwise_attention_op import attend_on_cpu
from nemo.collections.asr.parts.submodules.blockwise_attention_sdpa import attend_with_sdpa
from nemo.utils import avoid_float16_autocast_context

if TYPE_CHECKING:
    from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttention

__all__ = ["BlockwiseMask", "attend_in_blocks"]


class BlockwiseMask(NamedTuple):
    """What the layers are given instead of a mask `[B, S, S]`."""

    window: AttentionWindow
    lengths: Tensor
    """`[B]`, encoder frames of each utterance."""


def attend_in_blocks(
    attention: "RelPositionMultiHeadAttention",
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: BlockwiseMask,
    pos_emb: Tensor,
) -> Tensor:
    """What `attention` gives for queries, keys and values `[B, S, D]` of one sequence.

    Args:
        attention: NeMo's module; its projections, position biases and dropout are used.
        query, key, value: `[B, S, D]`.
        mask: which keys a query sees.
        pos_emb: `[1, 2 * S - 1, D]`, the embeddings of relative positions, furthest left first.

    Returns:
        `[B, S, D]`. Queries past the end of an utterance see nothing, as in NeMo's attention.
    """
    if torch.is_autocast_enabled():
        query, key, value = query.float(), key.float(), value.float()
    batch, frames, _ = query.shape
    heads, size = attention.h, attention.d_k
    with avoid_float16_autocast_context():
        q = attention.linear_q(query).view(batch, frames, heads, size)
        k = attention.linear_k(key).view(batch, frames, heads, size)
        v = attention.linear_v(value).view(batch, frames, heads, size)
        rows = mask.window.positions(frames)
        p = attention.linear_pos(pos_emb[0, rows]).view(-1, heads, size)
        scale = 1 / attention.s_d_k
        q_u = torch.add(attention.pos_bias_u * scale, q, alpha=scale)
        q_v = torch.add(attention.pos_bias_v * scale, q, alpha=scale)
        dropout = attention.dropout.p if attention.dropout.training else 0.0
        attend = attend_on_cpu if query.device.type == "cpu" else attend_with_sdpa
        q_u, q_v, k, v = (x.transpose(1, 2).reshape(batch * heads, frames, size) for x in (q_u, q_v, k, v))
        out = attend(q_u, q_v, k, v, p.transpose(0, 1), mask.lengths, mask.window, dropout)
        out = out.to(v.dtype).view(batch, heads, frames, size).transpose(1, 2).reshape(batch, frames, heads * size)
        return attention.linear_out(out)
