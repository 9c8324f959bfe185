"""A ConformerEncoder as a step: some new frames and a state of past ones in, encoded frames out.

NeMo's own streaming step keeps the inputs of every attention layer and projects all of them again at every step, and
all positions too. Here the projections are kept: a step projects its own frames alone, and its cost is that of
reading the weights once and of attending to the frames within the left context.

Attention is that of Transformer-XL (Dai et al., 2019, section 3.3). Frame i scores a frame r frames back as

    (q_i + u) . k_(i-r) + (q_i + v) . p_r   =   (q_i + u) . k_(i-r) + (q_i + u) . p_r + (v - u) . p_r

where the projected position p_r and the last term do not depend on the signal, so they are computed once. The bias u
goes into that of the query's projection.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.streaming.subsampling_step import StreamEdges, SubsamplingStep
from nemo.collections.asr.parts.submodules.conformer_modules import ConformerConvolution, ConformerLayer
from nemo.collections.asr.parts.submodules.multi_head_attention import INF_VAL, RelPositionMultiHeadAttention

__all__ = ["ConformerStep", "StepState"]


@dataclass
class StepState:
    """What a batch of streams remembers from one step to the next.

    New frames are written behind the past ones, into some room; only when that is full the past moves to the front.
    """

    attention: Tensor
    """Projected keys and values, `[layers, B, 2, heads, left + room, d_k]`."""

    convolution: Tensor
    """Inputs of the depthwise convolutions, `[layers, B, kernel - 1 + room, d_model]`."""

    subsampling: list[Tensor]
    """Last inputs of the strided convolutions, each `[B, channels, kernel - stride, features]`."""

    room: int
    """Encoder frames that fit in until the past has to move."""

    used: int = 0
    """How many of them are in use."""

    def make_room(self, frames: int) -> None:
        """Lets the next `frames` encoder frames fit in."""
        if self.used + frames <= self.room:
            return
        for cache in (*self.attention, *self.convolution):
            cache[..., : cache.shape[-2] - self.room, :] = self._past(cache).clone()
        self.used = 0

    def select(self, rows: Tensor) -> "StepState":
        """A copy that holds the streams of the given indices alone."""
        subsampling = [memory[rows] for memory in self.subsampling]
        return StepState(self.attention[:, rows], self.convolution[:, rows], subsampling, self.room, self.used)

    def put(self, rows: Tensor, other: "StepState") -> None:
        """Takes the past of the given streams from a `select`ed state that has gone on."""
        for mine, theirs in ((self.attention, other.attention), (self.convolution, other.convolution)):
            self._past(mine)[:, rows] = other._past(theirs)
        for mine, theirs in zip(self.subsampling, other.subsampling, strict=True):
            mine[rows] = theirs

    def clear(self, rows: Tensor) -> None:
        """Lets the streams of the given indices begin anew."""
        self.attention[:, rows] = 0
        self.convolution[:, rows] = 0
        for memory in self.subsampling:
            memory[rows] = 0

    def copy_past(self, other: "StepState") -> None:
        """Takes over all of a state with a shorter past."""
        for mine, theirs in ((self.attention, other.attention), (self.convolution, other.convolution)):
            past = other._past(theirs)
            self._past(mine)[..., -past.shape[-2] :, :] = past
        self.subsampling = other.subsampling

    def _past(self, cache: Tensor) -> Tensor:
        """The part of a cache that lies before the next frame to come."""
        return cache[..., self.used : self.used + cache.shape[-2] - self.room, :]


class ConformerStep:
    """The arithmetic of one streaming step for all layers of an encoder.

    Weights are referred to, not copied, but for the joint projection of query, key and value and for what little is
    folded. Dropout and other effects of training do not exist here.

    Args:
        encoder: a causal encoder with relative positions, as `EncoderStream` accepts it.
        frames: encoder frames in a step.
        chunk: encoder frames that see one another (`chunked_limited`); 1 where every frame sees its past alone.
        left: encoder frames before a chunk that it sees.
        layers: layers whose output is wanted besides the encoder's own.
    """

    def __init__(self, encoder: ConformerEncoder, frames: int, chunk: int, left: int, layers: Sequence[int] = ()):
        self.frames, self.chunk = frames, chunk
        self.captured = frozenset(layers)
        self.width = encoder.d_model
        self.scale = encoder.xscale
        self.subsampling = SubsamplingStep.of(encoder)
        self.layers = [_LayerStep(layer) for layer in encoder.layers]
        self.output = _Linear.of(encoder.out_proj) if encoder.out_proj is not None else None
        weight = self.layers[0].attention.out.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.set_left(left)

    def set_left(self, left: int) -> None:
        """Changes how far back the chunks see; the position tables follow."""
        self.left = left
        distances = torch.arange(left + self.frames - 1, -self.frames, -1, dtype=torch.float32, device=self.device)
        positions = sinusoids(distances, self.width).to(self.dtype)
        for layer in self.layers:
            layer.attention.set_positions(positions)
        self._hidden_outside_chunk = self._chunk_mask() if self.frames > self.chunk else None

    def new_state(self, batch_size: int) -> StepState:
        """The state of streams that have not begun."""
        heads = self.layers[0].attention.heads
        room = self.frames * max(1, self.left // (20 * self.frames))
        zeros = dict(device=self.device, dtype=self.dtype)
        kernel = self.layers[0].convolution.kernel
        return StepState(
            torch.zeros(len(self.layers), batch_size, 2, heads, self.left + room, self.width // heads, **zeros),
            torch.zeros(len(self.layers), batch_size, kernel - 1 + room, self.width, **zeros),
            self.subsampling.new_memory(batch_size),
            room,
        )

    @property
    def nbytes_of_tables(self) -> int:
        """Bytes of the projected positions, which all streams share."""
        return sum(table.nbytes for layer in self.layers for table in layer.attention.positions)

    @property
    def nbytes_of_weights(self) -> int:
        """Bytes of the weights that are copies of the encoder's."""
        return sum(layer.attention.qkv.weight.nbytes for layer in self.layers)

    def step(self, features: Tensor, state: StepState, history: int, edges: StreamEdges | None = None) -> list[Tensor]:
        """Encodes the next frames of every stream; the state goes on, but for `used`, which the caller advances.

        Args:
            features: `[B, frames * factor, F]`.
            state: with room for `frames`.
            history: how many past encoder frames are looked at; the longest past of a stream, at most `left`.
            edges: where the streams begin and end, if they do so around this step or have pasts that differ.

        Returns:
            The outputs `[B, frames, D]` of the captured layers in rising order, then that of the encoder.
        """
        batch, frames = len(features), self.frames
        x = self.subsampling.step(features, state.subsampling, edges).flatten(0, 1)
        if self.scale:
            x = x * self.scale
        mask = self._mask(history, edges)
        now = state.attention.shape[-2] - state.room + state.used
        attention = state.attention[..., now - history : now + frames, :]
        convolution = state.convolution[..., state.used :, :]
        outputs = []
        for index, layer in enumerate(self.layers):
            x = layer.step(x, attention[index], convolution[index], frames, mask)
            if index in self.captured:
                outputs.append(self._project(x))
        return [y.reshape(batch, frames, -1) for y in (*outputs, self._project(x))]

    def _project(self, x: Tensor) -> Tensor:
        return x if self.output is None else self.output(x)

    def _mask(self, history: int, edges: StreamEdges | None) -> Tensor | None:
        """What to add to the scores `[B, heads, frames, history + frames]`; None where all is visible."""
        chunks = self._hidden_outside_chunk
        if chunks is not None:
            chunks = chunks[:, self.left - history :]
        if edges is None:
            return chunks
        place = torch.arange(-history, self.frames, device=self.device)
        end = self.subsampling.frames_of(edges.stop)
        hidden = (place < -edges.past[:, None]) | (place >= end[:, None])
        mask = hidden[:, None, None].to(self.dtype) * _hiding(self.dtype)
        return mask if chunks is None else mask + chunks

    def _chunk_mask(self) -> Tensor:
        """`[frames, left + frames]`: hides what a frame's chunk does not see."""
        begin = torch.arange(self.frames, device=self.device)[:, None] // self.chunk * self.chunk
        place = torch.arange(-self.left, self.frames, device=self.device)
        hidden = (place < begin - self.left) | (place >= begin + self.chunk)
        return hidden.to(self.dtype) * _hiding(self.dtype)


class _LayerStep:
    """One Conformer layer."""

    def __init__(self, layer: ConformerLayer):
        self.feed_forward1 = _FeedForwardStep(layer.norm_feed_forward1, layer.feed_forward1, layer.fc_factor)
        self.attention = _AttentionStep(layer.norm_self_att, layer.self_attn)
        self.convolution = _ConvolutionStep(layer.norm_conv, layer.conv)
        self.feed_forward2 = _FeedForwardStep(layer.norm_feed_forward2, layer.feed_forward2, layer.fc_factor)
        self.norm = _Norm.of(layer.norm_out)

    def step(self, x: Tensor, attention: Tensor, convolution: Tensor, frames: int, mask: Tensor | None) -> Tensor:
        x = self.feed_forward1.step(x)
        x = self.attention.step(x, attention, frames, mask)
        x = self.convolution.step(x, convolution, frames)
        x = self.feed_forward2.step(x)
        return self.norm(x)


class _FeedForwardStep:
    def __init__(self, norm: nn.LayerNorm, feed_forward: nn.Module, factor: float):
        self.norm = _Norm.of(norm)
        self.inner, self.outer = _Linear.of(feed_forward.linear1), _Linear.of(feed_forward.linear2)
        self.factor = factor

    def step(self, x: Tensor) -> Tensor:
        return torch.add(x, self.outer(F.silu(self.inner(self.norm(x)), inplace=True)), alpha=self.factor)


class _AttentionStep:
    """Attention of the frames of a step to themselves and to the keys and values of past frames."""

    def __init__(self, norm: nn.LayerNorm, attention: RelPositionMultiHeadAttention):
        self.norm = _Norm.of(norm)
        self.heads = attention.h
        self.out = _Linear.of(attention.linear_out)
        self.position_weight = attention.linear_pos.weight
        projections = (attention.linear_q, attention.linear_k, attention.linear_v)
        weight = torch.cat([projection.weight.detach() for projection in projections])
        bias = weight.new_zeros(3, attention.h * attention.d_k)
        if attention.linear_q.bias is not None:
            bias += torch.stack([projection.bias.detach() for projection in projections])
        bias[0] += attention.pos_bias_u.detach().flatten()
        self.qkv = _Linear(weight, bias.flatten())
        self.bias_difference = (attention.pos_bias_v - attention.pos_bias_u).detach()

    def set_positions(self, positions: Tensor) -> None:
        """Projects a table of position encodings `[P, d_model]`, from far back to far ahead."""
        projected = F.linear(positions, self.position_weight.detach())
        projected = projected.unflatten(-1, (self.heads, -1)).permute(1, 2, 0)
        projected = projected * projected.shape[1] ** -0.5
        constant = torch.matmul(self.bias_difference[:, None], projected)
        self.positions = projected.contiguous(), constant
        """`[heads, d_k, P]` and `[heads, 1, P]`, both scaled as the scores are."""

    def step(self, x: Tensor, cache: Tensor, frames: int, mask: Tensor | None) -> Tensor:
        """Attends from `x` `[B * frames, d_model]` to `cache` `[B, 2, heads, history + frames, d_k]`."""
        batch, _, heads, visible, size = cache.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, frames, 3, heads, size).permute(0, 2, 3, 1, 4)
        cache[..., visible - frames :, :] = qkv[:, 1:]
        query = qkv[:, 0]
        scores = self._position_scores(query, visible)
        if mask is not None:
            scores = scores + mask
        attended = F.scaled_dot_product_attention(query, cache[:, 0], cache[:, 1], attn_mask=scores)
        return x + self.out(attended.transpose(1, 2).reshape(x.shape))

    def _position_scores(self, query: Tensor, visible: int) -> Tensor:
        """The part of the scores that comes from positions, `[B, heads, frames, visible]`.

        A query is scored against one row of positions, from the oldest key's as the last query sees it to the newest
        key's as the first one does. The i-th query's keys lie in it one step further to the left for each i, which a
        stride that is one shorter than the row expresses without a copy.
        """
        batch, heads, frames, _ = query.shape
        projected, constant = self.positions
        width = visible + frames - 1
        offset = constant.shape[-1] - width
        query = query.transpose(0, 1).flatten(1, 2)
        scores = torch.baddbmm(constant[..., offset:], query, projected[..., offset:])
        strides = (frames * width, batch * frames * width, width - 1, 1)
        return scores.as_strided((batch, heads, frames, visible), strides, frames - 1)


class _ConvolutionStep:
    """The convolution module; what depends on earlier frames is the depthwise convolution alone."""

    def __init__(self, norm: nn.LayerNorm, module: ConformerConvolution):
        self.norm = _Norm.of(norm)
        self.gated, self.out = _Linear.of(module.pointwise_conv1), _Linear.of(module.pointwise_conv2)
        self.kernel = module.depthwise_conv.kernel_size[0]
        weight, bias = module.depthwise_conv.weight.detach()[:, 0], module.depthwise_conv.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self.inner_norm = None
        if module.norm_type == "layer_norm":
            self.inner_norm = _Norm.of(module.batch_norm)
        else:
            weight, bias = _fold_norm(weight, bias, module.batch_norm)
        self.depthwise, self.bias = weight, bias

    def step(self, x: Tensor, cache: Tensor, frames: int) -> Tensor:
        """Adds to `x` `[B * frames, d_model]`; `cache` `[B, kernel - 1 + room, d_model]` is filled behind its past."""
        past = self.kernel - 1
        cache[:, past : past + frames] = F.glu(self.gated(self.norm(x)), dim=-1).reshape(len(cache), frames, -1)
        windows = cache[:, : past + frames].unfold(1, self.kernel, 1)
        y = (windows * self.depthwise).sum(-1).add_(self.bias).view(x.shape)
        if self.inner_norm is not None:
            y = self.inner_norm(y)
        return x + self.out(F.silu(y, inplace=True))


class _Linear:
    """A linear layer, or a convolution of kernel 1, over the last dimension."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias

    @classmethod
    def of(cls, module: nn.Linear | nn.Conv1d) -> "_Linear":
        return cls(module.weight.detach().flatten(1), None if module.bias is None else module.bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        """`[rows, in]` to `[rows, out]`; the result may lie in memory column by column."""
        if x.is_cuda:
            return F.linear(x, self.weight, self.bias)
        # On a CPU, a product of few rows with a large matrix is up to 1.7 times faster with the matrix on the left.
        if self.bias is None:
            return torch.mm(self.weight, x.t()).t()
        return torch.addmm(self.bias[:, None], self.weight, x.t()).t()


class _Norm:
    """A layer normalisation over the last dimension."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float):
        self.weight, self.bias, self.eps = weight, bias, eps

    @classmethod
    def of(cls, module: nn.LayerNorm) -> "_Norm":
        return cls(module.weight.detach(), module.bias.detach(), module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def _fold_norm(weight: Tensor, bias: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A depthwise convolution that does the normalisation by fixed statistics behind it, too."""
    scale, shift = norm.weight.detach(), norm.bias.detach()
    if isinstance(norm, nn.BatchNorm1d):
        scale = scale / torch.sqrt(norm.running_var + norm.eps)
        shift = shift - norm.running_mean * scale
    return weight * scale[:, None], bias * scale + shift


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """NeMo's position encodings (Vaswani et al., 2017, section 3.5) of `positions` `[P]`, `[P, width]`."""
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device) * -(math.log(INF_VAL) / width))
    angles = positions[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def _hiding(dtype: torch.dtype) -> float:
    """A score that hides a key, and leaves a row of hidden keys finite even where two of them add up."""
    return torch.finfo(dtype).min / 4
