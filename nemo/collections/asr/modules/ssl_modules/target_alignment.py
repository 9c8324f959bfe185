"""Which encoder frame has seen all feature frames of a token, so that it can predict the token."""

from typing import Any

from torch import nn

from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling, StackingSubsampling
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["resolve_target_shift", "subsampling_right_edge", "subsampling_target_shift"]

_STRIDING = ("striding", "dw_striding")
_ALIGNED = (*_STRIDING, "stacking", "stacking_norm")


def subsampling_right_edge(pre_encode: nn.Module) -> int:
    """The last feature frame that encoder frame 0 sees; for encoder frame k it is `k * factor` frames later.

    A strided convolution of kernel K that is padded by P on the left ends, for output k, at input `2k + K - 1 - P`;
    the stages are chained. (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.)

    Args:
        pre_encode: the encoder's subsampling module.

    Raises:
        ValueError: a subsampling whose alignment is not known.
    """
    if isinstance(pre_encode, nn.Linear):
        return 0
    if isinstance(pre_encode, StackingSubsampling):
        return pre_encode.subsampling_factor - 1
    if isinstance(pre_encode, ConvSubsampling) and pre_encode._subsampling in _STRIDING:
        beyond = pre_encode._kernel_size - 1 - pre_encode._left_padding
        edge = 0
        for _ in range(pre_encode._sampling_num):
            edge = pre_encode._stride * edge + beyond
        return edge
    kind = getattr(pre_encode, "_subsampling", type(pre_encode).__name__)
    raise ValueError(
        f"encoder.subsampling must be one of {', '.join(map(repr, _ALIGNED))}; got {kind!r}. "
        "For others it is not known which feature frames an encoder frame sees"
    )


def subsampling_target_shift(pre_encode: nn.Module, factor: int) -> int:
    """The smallest s for which encoder frame k + s has seen all of token k.

    Token k is made of the feature frames `k * factor ... k * factor + factor - 1`.

    Args:
        pre_encode: the encoder's subsampling module.
        factor: feature frames in an encoder frame.

    Returns:
        encoder frames: 0 for subsampling that looks ahead or stacks, 1 for causal striding.

    Raises:
        ValueError: as `subsampling_right_edge`.
    """
    missing = factor - 1 - subsampling_right_edge(pre_encode)
    return max(0, -(-missing // factor))


def resolve_target_shift(value: Any, pre_encode: nn.Module, factor: int) -> int:
    """The target shift that a config's `model.target_shift` means, in encoder frames.

    Args:
        value: `auto` for `subsampling_target_shift`, or a whole number of encoder frames >= 0. Under causal striding
            0 makes the encoder predict a token whose frames it has not seen yet.
        pre_encode: the encoder's subsampling module.
        factor: feature frames in an encoder frame.

    Raises:
        ValueError, TypeError: naming `model.target_shift`, or as `subsampling_right_edge`.
    """
    derived = subsampling_target_shift(pre_encode, factor)
    if value == "auto":
        return derived
    return check_whole_number("model.target_shift", value, 0, allowed="'auto' or a whole number >= 0")
