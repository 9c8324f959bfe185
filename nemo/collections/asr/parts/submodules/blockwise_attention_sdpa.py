"""Attention in blocks of queries by `scaled_dot_product_attention`, for accelerators.

The products with relative positions are the bias of each block (`attn_mask`), which PyTorch's memory-efficient kernel
takes and differentiates. With a limited context, all blocks are one call; else each block is one, so that keys which
the block does not see cost nothing. No value is read on the host.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow

__all__ = ["attend_with_sdpa"]

_BLOCK = 128
"""Queries in a block where all blocks are one call."""

_LARGE_BLOCK = 512
"""Queries in a block where each is a call of its own."""


def attend_with_sdpa(
    q_u: Tensor,
    q_v: Tensor,
    key: Tensor,
    value: Tensor,
    position: Tensor,
    lengths: Tensor,
    window: AttentionWindow,
    dropout: float = 0.0,
    size: int | None = None,
) -> Tensor:
    """Attention of each query to the keys that it sees; arguments and result as `attend_on_cpu`.

    The queries may have another dtype than the keys (autocast); theirs is the result's.
    """
    frames = q_u.shape[1]
    dtype = torch.promote_types(key.dtype, value.dtype)
    q_u, q_v, position = (tensor.to(dtype) for tensor in (q_u, q_v, position))
    position = position.repeat(q_u.shape[0] // position.shape[0], 1, 1)
    limited = min(window.left, window.right) >= 0 and window.left + window.right + window.chunk < frames
    attend = _in_one_call if limited else _block_by_block
    output = attend(q_u, q_v, key, value, position, lengths, window.within(frames), dropout, size)
    past = torch.arange(frames, device=lengths.device) >= lengths[:, None]
    return output.unflatten(0, (len(lengths), -1)).masked_fill(past[:, None, :, None], 0.0).flatten(0, 1)


def _in_one_call(
    q_u: Tensor,
    q_v: Tensor,
    key: Tensor,
    value: Tensor,
    position: Tensor,
    lengths: Tensor,
    window: AttentionWindow,
    dropout: float,
    size: int | None,
) -> Tensor:
    rows, frames, channels = q_u.shape
    size = -(-(size or _BLOCK) // window.chunk) * window.chunk
    number = -(-frames // size)
    after = number * size - frames
    width = window.left + size + window.right
    q_u, q_v = (pad(tensor, (0, 0, 0, after)).view(rows, number, size, channels) for tensor in (q_u, q_v))
    keys, values = (
        pad(tensor, (0, 0, window.left, after + window.right)).unfold(1, width, size).transpose(2, 3)
        for tensor in (key, value)
    )
    column = window.furthest_left(frames) - window.left
    band = torch.matmul(q_v, position[:, None].transpose(2, 3))
    first = size * torch.arange(number, device=q_u.device)[:, None, None]
    query = first + torch.arange(size, device=q_u.device)[:, None]
    seen = first - window.left + torch.arange(width, device=q_u.device)
    bias = _shifted(band, column, width).masked_fill(_hidden(query, seen, lengths, window, rows), _lowest(band))
    output = scaled_dot_product_attention(q_u, keys, values, attn_mask=bias, dropout_p=dropout, scale=1.0)
    return output.flatten(1, 2)[:, :frames]


def _block_by_block(
    q_u: Tensor,
    q_v: Tensor,
    key: Tensor,
    value: Tensor,
    position: Tensor,
    lengths: Tensor,
    window: AttentionWindow,
    dropout: float,
    size: int | None,
) -> Tensor:
    rows, frames, _ = q_u.shape
    outputs = []
    for block in window.blocks(frames, window.block_size(size or _LARGE_BLOCK)):
        queries, keys = slice(block.first_query, block.end_query), slice(block.first_key, block.end_key)
        rows_of_block = position[:, block.first_position : block.end_position]
        band = torch.bmm(q_v[:, queries], rows_of_block.transpose(1, 2))
        query = torch.arange(block.first_query, block.end_query, device=q_u.device)[:, None]
        seen = torch.arange(block.first_key, block.end_key, device=q_u.device)
        hidden = _hidden(query, seen, lengths, window, rows)
        bias = _shifted(band, block.column, block.keys).masked_fill(hidden, _lowest(band))
        outputs.append(
            scaled_dot_product_attention(
                q_u[:, queries], key[:, keys], value[:, keys], attn_mask=bias, dropout_p=dropout, scale=1.0
            )
        )
    return torch.cat(outputs, dim=1)


def _shifted(band: Tensor, column: int, keys: int) -> Tensor:
    """`[..., queries, positions]` to `[..., queries, keys]`; pairs without a position are for the caller to hide."""
    queries, positions = band.shape[-2:]
    width = max(queries - 1 + positions, column + keys)
    flat = pad(band, (0, width + 1 - positions)).flatten(-2)[..., : queries * width]
    return flat.unflatten(-1, (queries, width))[..., column : column + keys]


def _hidden(query: Tensor, key: Tensor, lengths: Tensor, window: AttentionWindow, rows: int) -> Tensor:
    """`[rows, ..., queries, keys]`: which pairs of frames numbered `query` and `key` are not seen."""
    start = query // window.chunk * window.chunk
    outside = (key < start - window.left) | (key >= start + window.chunk + window.right) | (key < 0)
    ends = lengths.repeat_interleave(rows // len(lengths), output_size=rows)
    return outside | (key >= ends.view(-1, *[1] * outside.dim()))


def _lowest(scores: Tensor) -> float:
    """Finite even with a score added to it, so that a query which sees nothing gives no NaN."""
    return torch.finfo(scores.dtype).min / 2
