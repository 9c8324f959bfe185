"""When an encoder computes its attention in blocks: where the config says so, or where it is faster."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow
from nemo.collections.asr.parts.submodules.blockwise_attention import BlockwiseMask
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttention

__all__ = ["blockwise_mask", "check_blockwise_attention", "is_faster_in_blocks"]

_KEY = "encoder.blockwise_attention"


def check_blockwise_attention(setting: Any, self_attention_model: str) -> bool | str:
    """Returns the config's `encoder.blockwise_attention`.

    Raises:
        ValueError: it is neither `"auto"` nor a bool, or True for attention that has no blocks.
    """
    if not isinstance(setting, bool) and setting != "auto":
        raise ValueError(f"{_KEY} must be 'auto', true or false; got {setting!r}")
    if setting is True and self_attention_model != "rel_pos":
        raise ValueError(
            f"{_KEY} must be 'auto' or false under encoder.self_attention_model '{self_attention_model}'; got True. "
            "Blocks are for 'rel_pos'"
        )
    return setting


def blockwise_mask(encoder: nn.Module, context: Sequence[int], lengths: Tensor, frames: int) -> BlockwiseMask | None:
    """What the layers of `encoder` are given to compute attention in blocks; None if they are to take NeMo's mask.

    Args:
        encoder: a `ConformerEncoder`.
        context: of this forward, as NeMo's `encoder.att_context_size` has it.
        lengths: `[B]`, encoder frames of each utterance.
        frames: encoder frames of the batch.
    """
    setting = encoder.blockwise_attention
    if setting is False or encoder.self_attention_model != "rel_pos" or frames == 0 or _is_traced():
        return None
    window = AttentionWindow.of_context(context, encoder.att_context_style)
    if setting == "auto" and not is_faster_in_blocks(window, frames, lengths.device.type):
        return None
    if not all(map(_takes_blockwise_mask, encoder.layers)):
        return None
    return BlockwiseMask(window, lengths)


def is_faster_in_blocks(window: AttentionWindow, frames: int, device: str = "cpu") -> bool:
    """Whether `auto` chooses blocks; `benchmarks/attention.py` shows what it is made from.

    Args:
        window: what a query sees.
        frames: encoder frames of the batch.
        device: the kind of device, as `torch.device.type` has it.
    """
    least, share = _FASTER.get(device, _FASTER["cuda"])
    size = window.block_size(64)
    whole = -(-frames // size) * size
    return frames >= least and window.pairs(frames, size) <= share * whole * whole


_FASTER = {"cpu": (128, 0.75), "cuda": (512, 0.5)}
"""By device: the fewest frames, and the largest share of all pairs that the blocks may have."""


def _takes_blockwise_mask(layer: nn.Module) -> bool:
    """False where an adapter, or attention that was put in place of NeMo's, may need a tensor as its mask."""
    attention = getattr(layer, "self_attn", None)
    is_nemos = getattr(type(attention), "forward", None) is RelPositionMultiHeadAttention.forward
    return is_nemos and not layer.is_adapter_available()


def _is_traced() -> bool:
    """Whether a graph is being recorded that must serve every length."""
    # Under `torch.compile` masks are made outside of the graph, where `is_compiling` is false.
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
