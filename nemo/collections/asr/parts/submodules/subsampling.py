"""The convolutions of the subsampling, masked only where a mask changes what comes out.

NeMo multiplies by the mask of valid frames before every layer and after the last one: nine times for a factor of 8,
each time into a new tensor, and these are the largest of the model. What a layer makes of padding matters only where
another frame reads it, and zeros stay zeros in a ReLU; so the outputs of three convolutions are masked, in place.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from nemo.collections.asr.parts.submodules.causal_convs import CausalConv2D
from nemo.collections.asr.parts.submodules.subsampling import MaskedConvSequential as NemoMaskedConvSequential
from nemo.collections.asr.parts.submodules.subsampling import calculate_conv_output_size

__all__ = ["MaskedConvSequential"]


class MaskedConvSequential(NemoMaskedConvSequential):
    """Convolutions over `[B, T, D]` that read zeros past each utterance's length; the same numbers as NeMo's."""

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the layers.

        Args:
            x: features `[B, T, D]`.
            lengths: valid frames `[B]`.

        Returns:
            `[B, C, T', D']`, zero past each length, and the lengths `[B]`, int64.
        """
        x = x.unsqueeze(1)
        lengths = lengths.float()
        padded = _may_be_padded(x, lengths)
        if padded:
            x = x * _valid_frames(x, lengths)
        for layer, following in pairwise([*self, None]):
            x = layer(x)
            convolution = isinstance(layer, nn.Conv2d)
            if convolution and layer.stride != (1, 1):
                padding = layer.padding
                if isinstance(layer, CausalConv2D):
                    padding = (layer._left_padding, layer._right_padding)
                lengths = calculate_conv_output_size(lengths, layer.kernel_size[0], layer.stride[0], padding)
            if not padded or isinstance(layer, nn.ReLU) or _keeps_frames_apart(following):
                continue
            # A convolution's backward does not need its output, so that it can be changed.
            x = (x.mul_ if convolution else x.mul)(_valid_frames(x, lengths))
        return x, lengths.long()


def _keeps_frames_apart(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size[0] == 1


def _valid_frames(x: Tensor, lengths: Tensor) -> Tensor:
    """`[B, 1, T, 1]`, 1 before each length and 0 from there on, for `x` `[B, C, T, D]`."""
    frames = torch.arange(x.shape[2], device=x.device)
    return (frames < lengths.long().unsqueeze(1)).to(x.dtype)[:, None, :, None]


def _may_be_padded(x: Tensor, lengths: Tensor) -> bool:
    """Whether a frame may lie past its utterance's length: known on a CPU alone, where looking costs nothing, and not
    while a graph is recorded, which would keep this batch's answer."""
    if lengths.device.type != "cpu" or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    return bool((lengths < x.shape[2]).any())
