"""A ConformerEncoder whose attention context can be set from outside, and whose attention costs what the context is.

NeMo samples the context inside `forward_internal`, where nothing else learns of it. Here `encoder.context` owns it.
The class is patched in place, so that everything which refers to it (adapters, type checks, other encoders) sees the
same class.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context.config import ConfiguredContexts
from nemo.collections.asr.parts.attention_context.encoder_context import EncoderContext
from nemo.collections.asr.parts.submodules.blockwise_attention import BlockwiseMask
from nemo.collections.asr.parts.submodules.blockwise_choice import blockwise_mask, check_blockwise_attention
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttentionLongformer

_nemo_init = ConformerEncoder.__init__
_nemo_create_masks = ConformerEncoder._create_masks
_nemo_calc_context_sizes = ConformerEncoder._calc_context_sizes
_nemo_load_from_state_dict = ConformerEncoder._load_from_state_dict


@functools.wraps(_nemo_init)
def __init__(self: ConformerEncoder, *args: Any, blockwise_attention: bool | str = "auto", **kwargs: Any) -> None:
    """NeMo's encoder.

    Args:
        blockwise_attention: whether attention computes what the context leaves visible, in blocks, or all pairs:
            `"auto"` for what is faster, by context and length; True for blocks, False for all pairs.
        args, kwargs: NeMo's arguments.
    """
    _nemo_init(self, *args, **kwargs)
    self.blockwise_attention = check_blockwise_attention(blockwise_attention, self.self_attention_model)
    self.context = EncoderContext(self)


@torch.compiler.disable
def _create_masks(
    self: ConformerEncoder,
    att_context_size: list[int],
    padding_length: torch.Tensor,
    max_audio_length: int,
    offset: torch.Tensor | None,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor | BlockwiseMask | None]:
    """The padding mask `[B, S]` and the attention mask, in training for the context that `self.context` has.

    Both are NeMo's, except that no attention mask `[B, S, S]` is made where the layers compute attention in blocks.

    Not compiled: `torch.compile` would compile the whole encoder anew for each context. As it is, only the masks that
    the compiled layers are given differ.
    """
    if self.training:
        att_context_size = self.context.of_attention(att_context_size)
    if isinstance(att_context_size, str):  # `encoder.att_context_size` was set to a preset's name by hand
        att_context_size = self.context.evaluation.as_list()
    if offset is None:
        mask = blockwise_mask(self, att_context_size, padding_length, max_audio_length)
        if mask is not None:
            return torch.arange(max_audio_length, device=device) >= padding_length[:, None], mask
    return _nemo_create_masks(self, att_context_size, padding_length, max_audio_length, offset, device)


def _calc_context_sizes(
    self: ConformerEncoder,
    att_context_size: Any,
    att_context_probs: Sequence[float] | None,
    att_context_style: str,
    conv_context_size: Any,
    conv_kernel_size: int,
) -> tuple:
    """Reads the config's contexts and probabilities; every error names the key of the config that is wrong."""
    *_, conv_context_size = _nemo_calc_context_sizes(
        self,
        att_context_size=None,
        att_context_probs=None,
        att_context_style="regular",
        conv_context_size=conv_context_size,
        conv_kernel_size=conv_kernel_size,
    )
    contexts = ConfiguredContexts.read(
        att_context_size, att_context_probs, att_context_style, self.self_attention_model
    )
    self.validated_context_sizes = [context.as_list() for context in contexts.validated]
    sizes = [context.as_list() for context in contexts.trained]
    return sizes, list(self.validated_context_sizes[0]), list(contexts.probabilities), conv_context_size


def follow_context_in_local_attention(self: ConformerEncoder) -> None:
    """Brings local attention to `att_context_size`: it keeps the window in every layer and in its position table."""
    if self.self_attention_model != "rel_pos_local_attn":
        return
    left, right = self.att_context_size
    for layer in self.layers:
        if isinstance(layer.self_attn, RelPositionMultiHeadAttentionLongformer):
            layer.self_attn.att_context_size = [left, right]
    table = self.pos_enc
    if (table.left_context, table.right_context) != (left, right):
        device, dtype = table.pe.device, table.pe.dtype
        table.left_context, table.right_context = left, right
        del table.pe
        table.extend_pe(self.max_audio_length, device, dtype)


def _load_from_state_dict(
    self: ConformerEncoder, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any, **kwargs: Any
) -> None:
    """Loads the weights of an encoder that was trained with masking after the convolutions, too.

    There a wrapper stands around `pre_encode`, and the subsampling's keys are one level deeper.
    """
    nested, plain = f"{prefix}pre_encode.pre_encode.", f"{prefix}pre_encode."
    if not hasattr(self.pre_encode, "pre_encode") and any(key.startswith(nested) for key in state_dict):
        for key in [key for key in state_dict if key.startswith(plain)]:
            value = state_dict.pop(key)
            if key.startswith(nested):
                state_dict[plain + key[len(nested) :]] = value
    _nemo_load_from_state_dict(self, state_dict, prefix, *args, **kwargs)


ConformerEncoder.__init__ = __init__
ConformerEncoder._create_masks = _create_masks
ConformerEncoder._calc_context_sizes = _calc_context_sizes
ConformerEncoder._load_from_state_dict = _load_from_state_dict
ConformerEncoder.follow_context_in_local_attention = follow_context_in_local_attention
