"""A ConformerEncoder whose attention context can be set from outside, in training too.

NeMo samples the context inside `forward_internal`, where nothing else learns of it. Here `encoder.context` owns it.
The class is patched in place, so that everything which refers to it (adapters, type checks, other encoders) sees the
same class.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.attention_context.encoder_context import EncoderContext
from nemo.collections.asr.parts.attention_context.sampling import normalized_probabilities
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttentionLongformer

_nemo_init = ConformerEncoder.__init__
_nemo_create_masks = ConformerEncoder._create_masks
_nemo_calc_context_sizes = ConformerEncoder._calc_context_sizes
_nemo_load_from_state_dict = ConformerEncoder._load_from_state_dict


@functools.wraps(_nemo_init)
def __init__(self: ConformerEncoder, *args: Any, **kwargs: Any) -> None:
    _nemo_init(self, *args, **kwargs)
    self.context = EncoderContext(self)


@torch.compiler.disable
def _create_masks(self: ConformerEncoder, att_context_size: list[int], *args: Any, **kwargs: Any) -> tuple:
    """NeMo's attention and padding masks, in training for the context that `self.context` has.

    Not compiled: `torch.compile` would compile the whole encoder anew for each context. As it is, only the masks that
    the compiled layers are given differ.
    """
    if self.training:
        att_context_size = self.context.of_attention(att_context_size)
    if isinstance(att_context_size, str):  # `encoder.att_context_size` was set to a preset's name by hand
        att_context_size = self.context.evaluation.as_list()
    return _nemo_create_masks(self, att_context_size, *args, **kwargs)


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
    name = "encoder.att_context_size"
    if att_context_style == "chunked_limited_with_rc":
        contexts: tuple[AttentionContext, ...] = (AttentionContext(left=-1, chunk=-1, right=-1),)
    else:
        contexts = AttentionContext.parse_all([-1, -1] if att_context_size is None else att_context_size, name=name)
    for context in contexts:
        context.check_style(att_context_style, name)
    if att_context_style == "chunked_limited" and len(contexts) == 1 and contexts[0].right < 0:
        raise ValueError(
            f"{name} must have a right context >= 0 where it is the only one under att_context_style "
            f"'chunked_limited'; got {contexts[0]}. Use att_context_style 'regular' for an unlimited right context"
        )
    if self.self_attention_model == "rel_pos_local_attn":
        if len(contexts) > 1:
            raise ValueError(
                f"{name} must be one context for local attention (self_attention_model 'rel_pos_local_attn'); got "
                f"{len(contexts)}. Use 'rel_pos' to train with several"
            )
        contexts[0].check_local_attention(name)
    probabilities = normalized_probabilities(att_context_probs, len(contexts), name="encoder.att_context_probs")
    sizes = [context.as_list() for context in contexts]
    return sizes, sizes[0], list(probabilities), conv_context_size


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
