"""Which encoder frame has seen a token's feature frames, and so can be asked for it."""

import numbers
from typing import Any

from torch import nn

from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling, StackingSubsampling

__all__ = ["resolve_target_shift", "subsampling_right_edge", "subsampling_target_shift"]

_STRIDING = ("striding", "dw_striding")


def subsampling_right_edge(pre_encode: nn.Module) -> int:
    """The last feature frame that encoder frame 0 sees; encoder frame k sees up to `k * factor` frames further.

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
        f"encoder.subsampling is '{kind}', for which it is not known which feature frames an encoder frame sees; "
        f"masked token prediction takes {', '.join(_STRIDING)}, stacking or stacking_norm"
    )


def subsampling_target_shift(pre_encode: nn.Module, factor: int) -> int:
    """How many encoder frames after k the first one comes that has seen all of token k.

    Token k is made of the feature frames `k * factor .. k * factor + factor - 1`.

    Args:
        pre_encode: the encoder's subsampling module.
        factor: feature frames per encoder frame.

    Returns:
        0 for subsampling that looks ahead or stacks, 1 for causal striding.

    Raises:
        ValueError: as `subsampling_right_edge`.
    """
    missing = factor - 1 - subsampling_right_edge(pre_encode)
    return max(0, -(-missing // factor))


def resolve_target_shift(value: Any, pre_encode: nn.Module, factor: int) -> int:
    """The shift that a config asks for.

    Args:
        value: `auto` for `subsampling_target_shift`, or a whole number of encoder frames >= 0. Under causal striding
            0 makes the encoder forecast: it has not seen the token's frames yet.
        pre_encode: the encoder's subsampling module.
        factor: feature frames per encoder frame.

    Raises:
        ValueError, TypeError: naming `model.target_shift`, or as `subsampling_right_edge`.
    """
    derived = subsampling_target_shift(pre_encode, factor)
    if value == "auto":
        return derived
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"model.target_shift is {value!r}, but must be 'auto' or a whole number >= 0")
    if value < 0:
        raise ValueError(f"model.target_shift is {value}, but must be 'auto' or a whole number >= 0")
    return int(value)
