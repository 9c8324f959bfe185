"""Attention in blocks of queries on a CPU: each block computes the scores that its queries need, in the cache.

For query `i` and key `j` of a head, with relative positions as in Transformer-XL (https://arxiv.org/abs/1901.02860,
section 3.3), `q_u` and `q_v` queries that are scaled and have the biases u and v added:

    score(i, j) = q_u(i) . k(j) + q_v(i) . p(i - j)        weight = softmax over the visible j

A block of queries needs `p` for the few differences `i - j` that it sees: its products with `p` are a band, whose row
for query `a` is shifted by `a` against that of query 0 (`_shifted`). The backward pass reads the same band from the
gradient of the scores (`_band`), as a view.

The weights are kept for the backward pass, one block after the other in one flat tensor.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow, QueryBlock

__all__ = ["attend_on_cpu"]

_TARGET = 64
"""Queries in a block."""

_HIDDEN = -1e30
"""The score of a pair that is hidden. Finite, so that a query which sees nothing gives no NaN."""


@torch.library.custom_op("nemo_blockwise_attention::forward", mutates_args=())
@torch.autocast("cpu", enabled=False)
def _attend(
    q_u: Tensor,
    q_v: Tensor,
    key: Tensor,
    value: Tensor,
    position: Tensor,
    lengths: Tensor,
    kept: Tensor | None,
    window: list[int],
    size: int,
    scale: float,
    keep_weights: bool,
) -> tuple[Tensor, Tensor]:
    rows, frames, _ = q_u.shape
    positions, seen = position.repeat(rows // position.shape[0], 1, 1), AttentionWindow(*window)
    output = value.new_zeros(value.shape)
    flat = q_u.new_empty(rows * seen.pairs(frames, size) if keep_weights else 0)
    valid = _Valid(lengths, rows, frames)
    place = 0
    for block in seen.blocks(frames, size):
        if block.first_query >= valid.longest:
            break
        shape = (rows, block.queries, block.keys)
        begin, place = place, place + rows * block.queries * block.keys
        weights = flat[begin:place].view(shape) if keep_weights else q_u.new_empty(shape)
        queries, keys = _queries(block), _keys(block)
        band = torch.bmm(q_v[:, queries], positions[:, _positions(block)].transpose(1, 2))
        scores = torch.baddbmm(_shifted(band, block), q_u[:, queries], key[:, keys].transpose(1, 2))
        if seen.chunk > 1:
            scores.masked_fill_(_hidden(block, seen), _HIDDEN)
        valid.hide_keys(scores, block)
        torch.softmax(scores, dim=-1, out=weights)
        valid.clear_queries(weights, block)
        used = weights if kept is None else weights * kept[begin:place].view(shape)
        output[:, queries] = torch.bmm(used, value[:, keys])
    flat[place:] = 0
    if kept is not None:
        output *= scale
    return output, flat


@torch.library.custom_op("nemo_blockwise_attention::backward", mutates_args=())
@torch.autocast("cpu", enabled=False)
def _attend_backward(
    grad: Tensor,
    q_u: Tensor,
    q_v: Tensor,
    key: Tensor,
    value: Tensor,
    position: Tensor,
    lengths: Tensor,
    kept: Tensor | None,
    flat: Tensor,
    window: list[int],
    size: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows, frames, _ = q_u.shape
    heads = position.shape[0]
    positions, seen = position.repeat(rows // heads, 1, 1), AttentionWindow(*window)
    grad = grad * scale if kept is not None else grad.contiguous()
    grads = [tensor.new_zeros(tensor.shape) for tensor in (q_u, q_v, key, value)]
    grad_u, grad_v, grad_key, grad_value = grads
    grad_position = position.new_zeros(position.shape)
    valid = _Valid(lengths, rows, frames)
    place = 0
    for block in seen.blocks(frames, size):
        if block.first_query >= valid.longest:
            break
        shape = (rows, block.queries, block.keys)
        begin, place = place, place + rows * block.queries * block.keys
        queries, keys = _queries(block), _keys(block)
        weights, mask = flat[begin:place].view(shape), None
        grad_weights = torch.bmm(grad[:, queries], value[:, keys].transpose(1, 2))
        used = weights
        if kept is not None:
            mask = kept[begin:place].view(shape)
            used = weights * mask
            grad_weights *= mask
        grad_value[:, keys] += torch.bmm(used.transpose(1, 2), grad[:, queries])
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_u[:, queries] = torch.bmm(grad_scores, key[:, keys])
        grad_key[:, keys] += torch.bmm(grad_scores.transpose(1, 2), q_u[:, queries])
        band = _band(grad_scores, block)
        grad_v[:, queries] = torch.bmm(band, positions[:, _positions(block)])
        of_rows = torch.bmm(band.transpose(1, 2), q_v[:, queries])
        grad_position[:, _positions(block)] += of_rows.unflatten(0, (-1, heads)).sum(0)
    return grad_u, grad_v, grad_key, grad_value, grad_position


@_attend.register_fake
def _shapes_of_attention(
    q_u: Tensor,
    q_v: Tensor,
    key: Tensor,
    value: Tensor,
    position: Tensor,
    lengths: Tensor,
    kept: Tensor | None,
    window: list[int],
    size: int,
    scale: float,
    keep_weights: bool,
) -> tuple[Tensor, Tensor]:
    pairs = AttentionWindow(*window).pairs(q_u.shape[1], size) if keep_weights else 0
    return value.new_empty(value.shape), q_u.new_empty(q_u.shape[0] * pairs)


@_attend_backward.register_fake
def _shapes_of_gradients(
    grad: Tensor,
    q_u: Tensor,
    q_v: Tensor,
    key: Tensor,
    value: Tensor,
    position: Tensor,
    lengths: Tensor,
    kept: Tensor | None,
    flat: Tensor,
    window: list[int],
    size: int,
    scale: float,
) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q_u, q_v, key, value, position))


def _save(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    *tensors, window, size, scale, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.constants = (window, size, scale)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple:
    nothing = (None,) * 6
    if grad is None:
        return (None,) * 5 + nothing
    return (*_attend_backward(grad, *ctx.saved_tensors, *ctx.constants), *nothing)


_attend.register_autograd(_differentiate, setup_context=_save)


def attend_on_cpu(
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
    """Attention of each query to the keys that it sees.

    Args:
        q_u: `[B * H, S, D / H]`, queries with the bias u added, scaled by `(D / H) ** -0.5`.
        q_v: the same with the bias v.
        key: `[B * H, S, D / H]`.
        value: `[B * H, S, D / H]`.
        position: `[H, P, D / H]`, the rows `window.positions(S)` of the projected table.
        lengths: `[B]`, frames of each utterance; keys past them are not seen, queries past them give zeros.
        window: which keys a query sees.
        dropout: probability with which a weight is dropped.
        size: queries in a block; None for the fastest.

    Returns:
        `[B * H, S, D / H]`, float32 (float64 for float64).
    """
    dtype = torch.float64 if q_u.dtype == torch.float64 else torch.float32
    tensors = [tensor.to(dtype) for tensor in (q_u, q_v, key, value, position)]
    size = window.block_size(_TARGET) if size is None else size
    kept = None
    if dropout > 0:
        pairs = window.pairs(q_u.shape[1], size)
        kept = torch.empty(q_u.shape[0] * pairs, dtype=torch.bool, device=q_u.device).bernoulli_(1 - dropout)
    scale = 1 / (1 - dropout) if dropout < 1 else 0.0
    keep_weights = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return _attend(*tensors, lengths, kept, list(window), size, scale, keep_weights)[0]


class _Valid:
    """Hides what is past the end of each utterance."""

    def __init__(self, lengths: Tensor, rows: int, frames: int):
        self.lengths = lengths.clamp(max=frames)
        self.heads = rows // max(len(lengths), 1)
        values = self.lengths.tolist()
        self.shortest, self.longest = min(values, default=0), max(values, default=0)

    def hide_keys(self, scores: Tensor, block: QueryBlock) -> None:
        if self.shortest < block.end_key:
            past = torch.arange(block.first_key, block.end_key) >= self.lengths[:, None]
            scores.unflatten(0, (-1, self.heads)).masked_fill_(past[:, None, None], _HIDDEN)

    def clear_queries(self, weights: Tensor, block: QueryBlock) -> None:
        if self.shortest < block.end_query:
            past = torch.arange(block.first_query, block.end_query) >= self.lengths[:, None]
            weights.unflatten(0, (-1, self.heads)).masked_fill_(past[:, None, :, None], 0.0)


def _queries(block: QueryBlock) -> slice:
    return slice(block.first_query, block.end_query)


def _keys(block: QueryBlock) -> slice:
    return slice(block.first_key, block.end_key)


def _positions(block: QueryBlock) -> slice:
    return slice(block.first_position, block.end_position)


def _shifted(band: Tensor, block: QueryBlock) -> Tensor:
    """`[rows, queries, positions]` to `[rows, queries, keys]`: pairs at their keys, hidden where there is no position.

    In a row that is one longer than it is read, each next row begins one further left.
    """
    rows, queries, positions = band.shape
    width = max(queries - 1 + positions, block.column + block.keys)
    padded = pad(band, (0, width + 1 - positions), value=_HIDDEN)
    size, stride = (rows, queries, block.keys), (queries * (width + 1), width, 1)
    return padded.as_strided(size, stride, block.column)


def _band(scores: Tensor, block: QueryBlock) -> Tensor:
    """The reverse of `_shifted`: `[rows, queries, keys]` to `[rows, queries, positions]`, 0 where there is no key."""
    rows, queries, keys = scores.shape
    after = max(queries - 1 + block.positions - block.column - keys, 0)
    if block.column or after:
        scores = pad(scores, (block.column, after))
    width = scores.shape[2]
    return scores.as_strided((rows, queries, block.positions), (queries * width, width + 1, 1))


def _hidden(block: QueryBlock, window: AttentionWindow) -> Tensor:
    """`[queries, keys]`: whether a key is outside the chunks that a query sees."""
    start = torch.arange(block.first_query, block.end_query)[:, None] // window.chunk * window.chunk
    keys = torch.arange(block.first_key, block.end_key)
    hidden = keys < start - window.left if window.left >= 0 else torch.zeros(start.shape, dtype=torch.bool)
    return hidden | (keys >= start + window.chunk + window.right) if window.right >= 0 else hidden
