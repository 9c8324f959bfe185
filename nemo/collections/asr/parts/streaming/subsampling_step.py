"""The subsampling of a ConformerEncoder as a step: feature frames in, encoder frames out, nothing computed twice.

Features are `[B, T, D]` with D mel channels; encoder frames are `[B, S, d_model]`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo.collections.asr.parts.attention_context.unwrap import unwrap
from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling, StackingSubsampling

if TYPE_CHECKING:
    from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder

__all__ = ["StackingStep", "StreamEdges", "StridingStep", "SubsamplingStep"]

Counts = TypeVar("Counts", np.ndarray, Tensor)


@dataclass(frozen=True)
class StreamEdges:
    """Where the streams of a batch begin and end around one step; each `[B]`, int64.

    A step needs no edges if all its streams have begun, go on, and have pasts of the same length.
    """

    past: Tensor
    """Encoder frames of the past that are the stream's own."""

    first: Tensor
    """Feature frames of this step that lie before the stream's beginning."""

    stop: Tensor
    """Feature frames of this step that lie before the stream's end; all frames of the step if it goes on."""


class SubsamplingStep(ABC):
    """What every way to subsample has in common."""

    factor: int
    """Feature frames for each encoder frame."""

    lead: int
    """Feature frames of silence before the first one, so that every encoder frame takes `factor` of them."""

    @staticmethod
    def of(encoder: "ConformerEncoder") -> "SubsamplingStep":
        """The streaming form of an encoder's subsampling.

        Raises:
            ValueError: a subsampling that looks ahead, or of a kind that is not known.
        """
        module = unwrap(encoder.pre_encode, holding="pre_encode")
        module = unwrap(getattr(module, "pre_encode", module))
        if isinstance(module, (nn.Linear, StackingSubsampling)):
            return StackingStep(module)
        if isinstance(module, ConvSubsampling):
            return StridingStep(module)
        raise ValueError(
            "encoder.pre_encode must be causal striding (subsampling: striding or dw_striding with "
            f"causal_downsampling: true) or stacking in a stream; got {type(module).__name__}"
        )

    def new_memory(self, batch_size: int) -> list[Tensor]:
        """The memory of streams that have not begun; `step` reads and updates it."""
        return []

    @abstractmethod
    def frames_of(self, features: Counts) -> Counts:
        """How many encoder frames a stream of so many feature frames has in all; the frames of `lead` count."""

    @abstractmethod
    def step(self, features: Tensor, memory: list[Tensor], edges: StreamEdges | None) -> Tensor:
        """Encoder frames `[B, S, d_model]` of the next feature frames `[B, S * factor, D]`; updates `memory`."""


class StackingStep(SubsamplingStep):
    """Projects groups of `factor` frames, or single frames; an incomplete group at the end gives no encoder frame."""

    lead = 0

    def __init__(self, module: nn.Linear | StackingSubsampling):
        self.factor = getattr(module, "subsampling_factor", 1)
        self._norm = getattr(module, "pre_norm", None)
        projection = getattr(module, "proj_out", module)
        self._weight, self._bias = projection.weight.detach(), projection.bias.detach()

    def frames_of(self, features: Counts) -> Counts:
        return features // self.factor

    def step(self, features: Tensor, memory: list[Tensor], edges: StreamEdges | None) -> Tensor:
        x = features if self._norm is None else self._norm(features)
        return F.linear(x.unflatten(1, (-1, self.factor)).flatten(2), self._weight, self._bias)


class StridingStep(SubsamplingStep):
    """Causal strided convolutions, each of which keeps the last frames of its input.

    Offline, encoder frame k sees the feature frames up to k * factor. With `factor - 1` frames of silence before the
    first feature frame, every encoder frame takes `factor` new ones.

    Offline, each convolution pads its own input with zeros at both ends. A stream sees the padding as frames before
    its beginning or past its end. A convolution's output there is not zero, so it is set to zero before the next
    convolution reads it.
    """

    def __init__(self, module: ConvSubsampling):
        if module._subsampling not in ("striding", "dw_striding"):
            raise ValueError(
                "encoder.subsampling must be 'striding' or 'dw_striding' (both with causal_downsampling: true) or "
                f"'stacking' in a stream; got '{module._subsampling}'"
            )
        if not module.is_causal:
            raise ValueError(
                "encoder.causal_downsampling must be true in a stream; got false, with which an encoder frame needs "
                "feature frames that have not arrived. Train the model with causal_downsampling: true"
            )
        self.factor = module.subsampling_factor
        self.lead = self.factor - 1
        self._stages = _stages(module)
        self._weight, self._bias = module.out.weight.detach(), module.out.bias.detach()

    def new_memory(self, batch_size: int) -> list[Tensor]:
        return [
            stage.weight.new_zeros(batch_size, stage.channels, stage.kept, stage.width)
            for stage in self._stages
            if stage.strided
        ]

    def frames_of(self, features: Counts) -> Counts:
        return (features + self.factor - 1) // self.factor

    def step(self, features: Tensor, memory: list[Tensor], edges: StreamEdges | None) -> Tensor:
        x = features.unsqueeze(1)
        memories = iter(memory)
        limits = None if edges is None else (edges.first, edges.stop)
        for stage in self._stages:
            if stage.strided:
                if limits is not None:
                    first, stop = limits
                    x = x * _between(first, stop, x)
                    limits = first // stage.stride, (stop + stage.stride - 1) // stage.stride
                x = stage.with_past(next(memories), x)
            x = F.conv2d(x, stage.weight, stage.bias, stage.stride, groups=stage.groups)
            if stage.rectified:
                x = x.relu_()
        return F.linear(x.transpose(1, 2).flatten(2), self._weight, self._bias)


@dataclass(frozen=True)
class _Stage:
    """One convolution over time and mel channels."""

    weight: Tensor
    bias: Tensor | None
    stride: int
    groups: int
    channels: int
    width: int
    """Mel channels of its input; each strided convolution leaves fewer."""
    rectified: bool
    """Whether a ReLU follows."""

    @property
    def strided(self) -> bool:
        return self.stride > 1

    @property
    def kept(self) -> int:
        """Last frames of its input that the next step needs again."""
        return self.weight.shape[-1] - self.stride

    def with_past(self, memory: Tensor, x: Tensor) -> Tensor:
        """The input `[B, channels, T, width]` with the kept frames before it and zeros around the mel channels.

        `memory` then holds the last frames of `x`.
        """
        left = self.weight.shape[-1] - 1
        padded = F.pad(x, (left, self.stride - 1, self.kept, 0))
        padded[:, :, : self.kept, left : left + self.width] = memory
        memory.copy_(x[:, :, x.shape[2] - self.kept :])
        return padded


def _stages(module: ConvSubsampling) -> list[_Stage]:
    layers, width, stages = list(module.conv), module._feat_in, []
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if not isinstance(layer, nn.Conv2d):
            continue
        bias = None if layer.bias is None else layer.bias.detach()
        stage = _Stage(
            weight=layer.weight.detach(),
            bias=bias,
            stride=layer.stride[0],
            groups=layer.groups,
            channels=layer.in_channels,
            width=width,
            rectified=isinstance(after, nn.ReLU),
        )
        stages.append(stage)
        if stage.strided:
            width = (width - 1 + stage.stride - 1) // stage.stride + 1
    return stages


def _between(first: Tensor, stop: Tensor, like: Tensor) -> Tensor:
    """1 for the frames from `first[b]` to before `stop[b]` of row b, else 0; `[B, 1, T, 1]`."""
    place = torch.arange(like.shape[2], device=like.device)
    return ((place >= first[:, None]) & (place < stop[:, None]))[:, None, :, None].to(like.dtype)
