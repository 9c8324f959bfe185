"""The convolutions of the subsampling, masked only where a mask changes what comes out.

NeMo multiplies by the mask of valid frames before every layer and after the last one: nine times for a factor of 8, on
the largest tensors of the model. A layer that treats every frame by itself needs none, since what it makes of padding
is zeroed before another frame can read it; nor does a batch without padding.
"""

import torch
from torch import Tensor, nn

from nemo.collections.asr.parts.submodules.subsampling import MaskedConvSequential as NemoMaskedConvSequential
from nemo.collections.asr.parts.submodules.subsampling import apply_channel_mask, calculate_conv_output_size

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
        for layer in self:
            if padded and _reads_neighbours(layer):
                x = self._masked(x, lengths)
            x = layer(x)
            if getattr(layer, "stride", (1, 1)) != (1, 1):
                padding = getattr(layer, "padding", None)
                if hasattr(layer, "_left_padding"):  # causal
                    padding = (layer._left_padding, layer._right_padding)
                lengths = calculate_conv_output_size(lengths, layer.kernel_size[0], layer.stride[0], padding)
        return (self._masked(x, lengths) if padded else x), lengths.long()

    def _masked(self, x: Tensor, lengths: Tensor) -> Tensor:
        return apply_channel_mask(x, self._create_mask(x, lengths.long()))


def _reads_neighbours(layer: nn.Module) -> bool:
    return getattr(layer, "kernel_size", (1, 1))[0] > 1


def _may_be_padded(x: Tensor, lengths: Tensor) -> bool:
    """Whether a frame may lie past its utterance's length: known on a CPU alone, where looking costs nothing, and not
    while a graph is recorded, which would keep this batch's answer."""
    if lengths.device.type != "cpu" or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    return bool((lengths < x.shape[2]).any())
