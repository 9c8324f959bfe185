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
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nemo.collections.asr.parts.streaming.conformer_layer_step import ConformerLayerStep, LinearStep
from nemo.collections.asr.parts.streaming.step_state import StepState
from nemo.collections.asr.parts.streaming.subsampling_step import StreamEdges, SubsamplingStep
from nemo.collections.asr.parts.submodules.multi_head_attention import INF_VAL

if TYPE_CHECKING:
    from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder

__all__ = ["ConformerStep", "sinusoids"]


class ConformerStep:
    """The arithmetic of one streaming step for all layers of an encoder.

    Weights are referred to, not copied, except for the joint projection of query, key and value and for the bias and
    the normalisation that are folded into it and into the depthwise convolution. Dropout and other effects of training
    do not exist here.

    Args:
        encoder: a causal encoder with relative positions, as `EncoderStream` accepts it.
        frames: encoder frames in a step.
        chunk: encoder frames that see one another (`chunked_limited`); 1 where every frame sees its past alone.
        left: encoder frames before a chunk that it sees.
        layers: layers whose output is wanted besides the encoder's own.
    """

    def __init__(self, encoder: "ConformerEncoder", frames: int, chunk: int, left: int, layers: Sequence[int] = ()):
        self.frames, self.chunk = frames, chunk
        self.captured = frozenset(layers)
        self.channels = encoder.d_model
        self.scale = encoder.xscale
        self.subsampling = SubsamplingStep.of(encoder)
        self.layers = [ConformerLayerStep(layer) for layer in encoder.layers]
        self.output = LinearStep.of(encoder.out_proj) if encoder.out_proj is not None else None
        weight = self.layers[0].attention.out.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.set_left(left)

    def set_left(self, left: int) -> None:
        """Changes the left context, in encoder frames; the tables of positions follow."""
        self.left = left
        distances = torch.arange(left + self.frames - 1, -self.frames, -1, dtype=torch.float32, device=self.device)
        positions = sinusoids(distances, self.channels).to(self.dtype)
        for layer in self.layers:
            layer.attention.set_positions(positions)
        self._hidden_outside_chunk = self._chunk_mask() if self.frames > self.chunk else None

    def new_state(self, batch_size: int) -> StepState:
        """The state of streams that have not begun."""
        heads = self.layers[0].attention.heads
        room = self.frames * max(1, self.left // (20 * self.frames))
        zeros = self.layers[0].attention.out.weight.new_zeros
        kernel = self.layers[0].convolution.kernel
        return StepState(
            zeros(len(self.layers), batch_size, 2, heads, self.left + room, self.channels // heads),
            zeros(len(self.layers), batch_size, kernel - 1 + room, self.channels),
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
        """Encodes the next frames of every stream and writes them into the state; the caller advances `state.used`.

        Args:
            features: `[B, T, D]` with D mel channels, T being `frames` times the subsampling factor.
            state: with room for `frames`.
            history: how many past encoder frames are attended to; the longest past of a stream, at most `left`.
            edges: needed if a stream begins or ends in this step, or if the streams have pasts of different length.

        Returns:
            The outputs `[B, S, D]` of the captured layers in rising order, then that of the encoder; S is `frames`.
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
        """What to add to the scores `[B, H, frames, history + frames]`; None where all is visible."""
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


def sinusoids(positions: Tensor, channels: int) -> Tensor:
    """NeMo's position encodings (Vaswani et al., 2017, section 3.5) `[P, D]` of P positions, with D `channels`."""
    rates = torch.exp(torch.arange(0, channels, 2, device=positions.device) * -(math.log(INF_VAL) / channels))
    angles = positions[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def _hiding(dtype: torch.dtype) -> float:
    """A score that hides a key, and leaves a row of hidden keys finite even where two of them add up."""
    return torch.finfo(dtype).min / 4
