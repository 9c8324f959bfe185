"""The subsampling of a ConformerEncoder as a step: feature frames in, encoder frames out, nothing computed twice."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling, StackingSubsampling

__all__ = ["StreamEdges", "SubsamplingStep"]

Counts = TypeVar("Counts", np.ndarray, Tensor)


@dataclass(frozen=True)
class StreamEdges:
    """Where the streams of a batch begin and end around one step; each `[B]`, int64.

    A step in the midst of streams that all have equally much past needs none.
    """

    past: Tensor
    """Encoder frames of the past that are the stream's own."""

    first: Tensor
    """Feature frames of this step that lie before the stream's beginning."""

    stop: Tensor
    """Feature frames of this step that lie before the stream's end; all of them where it goes on."""


class SubsamplingStep(ABC):
    """Common part of the ways to subsample: what a step takes and what it leaves behind."""

    factor: int
    """Feature frames for each encoder frame."""

    lead: int
    """Feature frames of silence before the first one, so that every encoder frame takes `factor` of them."""

    @staticmethod
    def of(encoder: ConformerEncoder) -> "SubsamplingStep":
        """The streaming form of an encoder's subsampling.

        Raises:
            ValueError: it looks ahead, or is of a kind that is not known.
        """
        module = getattr(encoder.pre_encode, "pre_encode", encoder.pre_encode)
        if isinstance(module, (nn.Linear, StackingSubsampling)):
            return StackingStep(module)
        if isinstance(module, ConvSubsampling):
            return StridingStep(module)
        raise ValueError(
            f"encoder.pre_encode is a {type(module).__name__}, but a stream needs causal striding "
            "(subsampling: striding or dw_striding with causal_downsampling: true) or stacking"
        )

    def new_memory(self, batch_size: int) -> list[Tensor]:
        """What streams that have not begun remember."""
        return []

    @abstractmethod
    def frames_of(self, features: Counts) -> Counts:
        """How many encoder frames so many feature frames (the lead included) become if the stream ends with them."""

    @abstractmethod
    def step(self, features: Tensor, memory: list[Tensor], edges: StreamEdges | None) -> Tensor:
        """Encoder frames `[B, T, d_model]` of the next feature frames `[B, T * factor, F]`; `memory` is kept up."""


class StackingStep(SubsamplingStep):
    """Groups of frames, each projected (or single frames); a group that is not whole at the end is left out."""

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

    Offline, each convolution pads its own input with zeros on both ends, so encoder frame k sees the feature frames up
    to k * factor. `factor - 1` frames of silence before the first one make every encoder frame take `factor` new
    ones; what a convolution makes of silence, before the beginning or past the end, is set to zero before the next
    one reads it.
    """

    def __init__(self, module: ConvSubsampling):
        if module._subsampling not in ("striding", "dw_striding"):
            raise ValueError(
                f"encoder.subsampling is '{module._subsampling}', but a stream needs 'striding' or 'dw_striding' "
                "with causal_downsampling: true, or stacking"
            )
        if not module.is_causal:
            raise ValueError(
                "encoder.causal_downsampling is false, so an encoder frame sees feature frames that have not arrived; "
                "a stream needs a model that was trained with causal_downsampling: true"
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
        first, stop = (edges.first, edges.stop) if edges is not None else (None, None)
        for stage in self._stages:
            if stage.strided:
                if edges is not None:
                    x = x * _between(first, stop, x)
                    first, stop = first // stage.stride, (stop + stage.stride - 1) // stage.stride
                x = stage.behind(next(memories), x)
            x = F.conv2d(x, stage.weight, stage.bias, stage.stride, groups=stage.groups)
            if stage.rectified:
                x = x.relu_()
        return F.linear(x.transpose(1, 2).flatten(2), self._weight, self._bias)


@dataclass(frozen=True)
class _Stage:
    """One convolution over time and features."""

    weight: Tensor
    bias: Tensor | None
    stride: int
    groups: int
    channels: int
    width: int
    """Features of its input."""
    rectified: bool
    """Whether a ReLU follows."""

    @property
    def strided(self) -> bool:
        return self.stride > 1

    @property
    def kept(self) -> int:
        """Frames of its input that the outputs of two steps have in common."""
        return self.weight.shape[-1] - self.stride

    def behind(self, memory: Tensor, x: Tensor) -> Tensor:
        """The input with the frames kept before it and silence around the features; keeps its last frames instead."""
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
