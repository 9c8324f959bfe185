"""A ConformerEncoder that can be told its attention context, in training too.

NeMo draws the context inside `forward_internal`, where nobody else learns of it. The class is patched in place, so
that everything which holds a reference to it (adapters, type checks, other encoders) sees the same class.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.attention_context.sampling import normalized_probabilities
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttentionLongformer
from nemo.collections.asr.parts.utils.warn_once import warn_once

_nemo_create_masks = ConformerEncoder._create_masks
_nemo_calc_context_sizes = ConformerEncoder._calc_context_sizes
_nemo_load_from_state_dict = ConformerEncoder._load_from_state_dict


@dataclass(frozen=True)
class EncoderContextState:
    """All that an encoder remembers about its context: `context_state` gives it, `restore_context_state` takes it."""

    att_context_size: Any
    """The context of evaluation, in the form in which it was set."""

    pinned: bool
    """Whether training keeps to `att_context_size` instead of drawing."""

    drawn: AttentionContext | None
    """The context that the model drew for its last training forward."""

    streaming_cfg: Any
    """NeMo's streaming parameters (chunk and cache sizes)."""


@torch.compiler.disable
def _create_masks(self: ConformerEncoder, att_context_size: list[int], *args: Any, **kwargs: Any) -> tuple:
    """NeMo's masks, for the context that was chosen outside: pinned, or drawn by the model for this forward.

    Both outlive the forward, so that a recomputation in the backward pass (activation checkpointing) sees what the
    forward saw. Not compiled, since `torch.compile` would compile the whole encoder anew for each context; as it is,
    only the masks that the compiled layers are given differ.
    """
    if self.training and self.context_pinned:
        att_context_size = self.att_context_size
    elif self.training and self.drawn_context is not None:
        att_context_size = self.drawn_context.as_list()
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
        contexts = (AttentionContext(left=-1, chunk=-1, right=-1),)
    else:
        contexts = AttentionContext.parse_all([-1, -1] if att_context_size is None else att_context_size, name=name)
    for context in contexts:
        context.check_style(att_context_style, name)
    if att_context_style == "chunked_limited" and len(contexts) == 1 and contexts[0].right < 0:
        raise ValueError(
            f"{name} is {contexts[0]}, but a single context of att_context_style 'chunked_limited' needs a right "
            "context >= 0; use att_context_style 'regular' for an unlimited one"
        )
    if self.self_attention_model == "rel_pos_local_attn":
        if len(contexts) > 1:
            raise ValueError(
                f"{name} lists {len(contexts)} contexts, but local attention (self_attention_model "
                "'rel_pos_local_attn') takes one; use 'rel_pos' to train with several"
            )
        contexts[0].check_local_attention(name)
    probabilities = normalized_probabilities(att_context_probs, len(contexts), name="encoder.att_context_probs")
    sizes = [context.as_list() for context in contexts]
    return sizes, sizes[0], list(probabilities), conv_context_size


def trained_contexts(self: ConformerEncoder) -> tuple[AttentionContext, ...]:
    """The contexts that the encoder's config trains, in its order."""
    return AttentionContext.parse_all(self.att_context_size_all, name="encoder.att_context_size")


def evaluation_context(self: ConformerEncoder) -> AttentionContext:
    """The context of evaluation: `att_context_size`, whether set by hand or by a helper."""
    name = "encoder.att_context_size"
    return self.check_context(AttentionContext.parse(self.att_context_size, name=name), name=name)


def check_context(self: ConformerEncoder, context: AttentionContext, name: str = "context") -> AttentionContext:
    """Returns `context` if this encoder's attention can take it.

    Raises:
        ValueError: it cannot; the message names `name`, the context and what is allowed.
    """
    context.check_style(self.att_context_style, name)
    if self.self_attention_model == "rel_pos_local_attn":
        context.check_local_attention(name)
    return context


def pin_context(self: ConformerEncoder, context: AttentionContext) -> None:
    """Sets the context of evaluation and of training (nothing is drawn), and the streaming parameters with it.

    Raises:
        ValueError: as `check_context`; nothing is changed then.
    """
    self.check_context(context)
    if context not in self.trained_contexts():
        warn_once(
            self,
            f"untrained context {context}",
            f"The encoder was not trained for the context {context}; it was trained for "
            f"{', '.join(str(trained) for trained in self.trained_contexts())}.",
        )
    self.att_context_size = context.as_list()
    self.context_pinned = True
    self.setup_streaming_params()
    _follow_in_local_attention(self)


def context_state(self: ConformerEncoder) -> EncoderContextState:
    """What `restore_context_state` needs to undo any change of context."""
    return EncoderContextState(
        att_context_size=self.att_context_size,
        pinned=self.context_pinned,
        drawn=self.drawn_context,
        streaming_cfg=self.streaming_cfg,
    )


def restore_context_state(self: ConformerEncoder, state: EncoderContextState) -> None:
    """Goes back to an earlier `context_state`."""
    self.att_context_size = state.att_context_size
    self.context_pinned = state.pinned
    self.drawn_context = state.drawn
    self.streaming_cfg = state.streaming_cfg
    for module in self.layers.modules():
        if hasattr(module, "_max_cache_len"):
            module.cache_drop_size = state.streaming_cfg.cache_drop_size
    _follow_in_local_attention(self)


@contextmanager
def evaluating_context(self: ConformerEncoder, context: AttentionContext) -> Iterator[None]:
    """Within the block, `att_context_size` is `context`; it is put back afterwards, on an error too.

    For offline forwards: the streaming parameters stay as they are.
    """
    previous, self.att_context_size = self.att_context_size, context.as_list()
    try:
        yield
    finally:
        self.att_context_size = previous


def unwrapped_conformer(encoder: Any) -> ConformerEncoder | None:
    """The encoder within what `torch.compile` or activation checkpointing put around it; None for another kind."""
    for wrapped in ("_orig_mod", "_checkpoint_wrapped_module"):
        encoder = getattr(encoder, wrapped, encoder)
    return encoder if isinstance(encoder, ConformerEncoder) else None


def _follow_in_local_attention(encoder: ConformerEncoder) -> None:
    """Local attention keeps the window in every layer and in its position table: both follow `att_context_size`."""
    if encoder.self_attention_model != "rel_pos_local_attn":
        return
    left, right = encoder.att_context_size
    for layer in encoder.layers:
        if isinstance(layer.self_attn, RelPositionMultiHeadAttentionLongformer):
            layer.self_attn.att_context_size = [left, right]
    table = encoder.pos_enc
    if (table.left_context, table.right_context) != (left, right):
        device, dtype = table.pe.device, table.pe.dtype
        table.left_context, table.right_context = left, right
        del table.pe
        table.extend_pe(encoder.max_audio_length, device, dtype)


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


ConformerEncoder.context_pinned = False
ConformerEncoder.drawn_context = None
for _method in (
    _create_masks,
    _calc_context_sizes,
    _load_from_state_dict,
    trained_contexts,
    evaluation_context,
    check_context,
    pin_context,
    context_state,
    restore_context_state,
    evaluating_context,
):
    setattr(ConformerEncoder, _method.__name__, _method)
