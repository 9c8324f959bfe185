"""Helpers that change a model's attention context and keep its masking in sync."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from torch import nn

from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.attention_context.unwrap import find_conformer
from nemo.collections.asr.parts.utils.warn_once import warn_once

__all__ = [
    "dynamic_context",
    "release_dynamic_context",
    "set_dynamic_context",
    "sync_masking_context_with_attention",
]


class _MaskProcessor(Protocol):
    """A model's masking that takes a left context, such as `RandomBlockMasking`."""

    causal: bool
    left_context_size: int


def set_dynamic_context(
    model: nn.Module, context: str | Sequence[int] | AttentionContext, sync_masking: bool = True
) -> list[int]:
    """Sets a model's attention context, and gives its masking the same left context.

    The context holds in evaluation and in training (no context is sampled until `release_dynamic_context`). NeMo's
    streaming parameters (chunk and cache sizes) follow.

        >>> set_dynamic_context(model, "low")
        [160, 0]
        >>> set_dynamic_context(model, [200, 0])
        [200, 0]

    Args:
        model: any NeMo model with a Conformer encoder, with or without masking. Wrappers (DDP, `torch.compile`,
            activation checkpointing) are looked through.
        context: a preset's name (`very_low`, `low`, `medium`, `high`, `unlimited`, or one of the model's own
            `cfg.context_presets`), a pair `[left, right]` in encoder frames with -1 for unlimited, or three numbers
            `[left, chunk, right]` where the encoder's attention style is `chunked_limited_with_rc`.
        sync_masking: False leaves the mask processor as it is, and the model's forward does not override it.

    Returns:
        The context as NeMo keeps it: `[left, right]`, or `[left, chunk, right]`.

    Raises:
        TypeError: `model` has no Conformer encoder, or `context` is neither a name nor whole numbers.
        ValueError: an unknown preset, or a context that the encoder's attention cannot take. Nothing is changed then.
    """
    owner, encoder = find_conformer(model)
    parsed = encoder.context.check(AttentionContext.parse(context, presets=context_presets(owner)))
    encoder.context.pin(parsed, masking_follows=sync_masking)
    if sync_masking:
        _give_left_context(owner, parsed.left)
    return parsed.as_list()


def sync_masking_context_with_attention(
    model: nn.Module, att_context: str | Sequence[int] | AttentionContext | None = None
) -> bool:
    """Gives the mask processor the left context of the attention, and pins both as `set_dynamic_context` does.

        >>> model.encoder.att_context_size = [160, 0]
        >>> sync_masking_context_with_attention(model)
        True
        >>> model.mask_processor.left_context_size
        160

    Args:
        model: any NeMo model with a Conformer encoder.
        att_context: the context to set first; None takes `encoder.att_context_size` as it stands.

    Returns:
        Whether there was a mask processor to sync.

    Raises:
        TypeError, ValueError: as `set_dynamic_context`.
    """
    owner, encoder = find_conformer(model)
    set_dynamic_context(owner, encoder.context.evaluation if att_context is None else att_context)
    return _mask_processor(owner) is not None


def release_dynamic_context(model: nn.Module) -> None:
    """Lets training sample its contexts again; evaluation keeps the context that was set last.

    Masking follows the attention again, also after `set_dynamic_context(..., sync_masking=False)`.

    Raises:
        TypeError: `model` has no Conformer encoder.
    """
    owner, encoder = find_conformer(model)
    left = encoder.context.evaluation.left
    encoder.context.release()
    _give_left_context(owner, left)


@contextmanager
def dynamic_context(model: nn.Module, context: str | Sequence[int] | AttentionContext) -> Iterator[list[int]]:
    """Within the block, the model has the context `context`; afterwards, on an error too, all is as it was.

        >>> with dynamic_context(model, "low"):
        ...     encoded = model.forward(audio, lengths, apply_mask=False)

    Args and errors are those of `set_dynamic_context`. Blocks may be nested.
    """
    owner, encoder = find_conformer(model)
    state = encoder.context.state()
    processor = _mask_processor(owner)
    left: Any = getattr(processor, "left_context_size", None)
    try:
        yield set_dynamic_context(owner, context)
    finally:
        encoder.context.restore(state)
        if processor is not None:
            processor.left_context_size = left


def context_presets(owner: nn.Module) -> Mapping[str, Any] | None:
    """The presets that a model's config has of its own, by name."""
    config = getattr(owner, "cfg", None)
    return config.get("context_presets", None) if config is not None else None


def _mask_processor(owner: nn.Module) -> _MaskProcessor | None:
    """The model's masking, where it has one that takes a left context."""
    processor = getattr(owner, "mask_processor", None)
    return processor if hasattr(processor, "left_context_size") else None


def _give_left_context(owner: nn.Module, left: int) -> None:
    processor = _mask_processor(owner)
    if processor is None:
        return
    processor.left_context_size = left
    if not processor.causal:
        warn_once(
            owner,
            "masking is not causal",
            "The model's masking is not causal (masking.causal: false), so nothing reads its left_context_size; "
            "set masking.causal: true in the config to confine masking to the attention's left context.",
        )
