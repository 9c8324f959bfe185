"""Helpers that change a model's attention context and keep its masking in step, and the live stream."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.streaming.encoder_stream import EncoderStream  # noqa: F401  part of this module's interface
from nemo.collections.asr.parts.utils.encoding import encode  # noqa: F401  part of this module's interface
from nemo.collections.asr.parts.utils.warn_once import warn_once


def set_dynamic_context(
    model: nn.Module, context: str | Sequence[int] | AttentionContext, sync_masking: bool = True
) -> list[int]:
    """Gives a model one attention context, and its masking the same left context.

    The context holds in evaluation and in training (where nothing is drawn until `release_dynamic_context`), and
    NeMo's streaming parameters (chunk and cache sizes) follow.

        >>> set_dynamic_context(model, "low")
        [160, 0]
        >>> set_dynamic_context(model, [200, 0])
        [200, 0]

    Args:
        model: any NeMo model with a Conformer encoder, with or without masking, wrapped by DDP or not.
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
    owner, encoder = _model_and_encoder(model)
    parsed = encoder.check_context(AttentionContext.parse(context, presets=_presets(owner)))
    encoder.pin_context(parsed)
    if _mask_processor(owner) is not None:
        owner.masking_follows_attention = sync_masking
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
    owner, encoder = _model_and_encoder(model)
    set_dynamic_context(owner, encoder.evaluation_context() if att_context is None else att_context)
    return _mask_processor(owner) is not None


def release_dynamic_context(model: nn.Module) -> None:
    """Lets training draw its contexts again; evaluation keeps the context that was set last.

    Masking follows the attention again, also after `set_dynamic_context(..., sync_masking=False)`.

    Raises:
        TypeError: `model` has no Conformer encoder.
    """
    owner, encoder = _model_and_encoder(model)
    encoder.context_pinned = False
    if _mask_processor(owner) is not None:
        owner.masking_follows_attention = True
        _give_left_context(owner, encoder.evaluation_context().left)


@contextmanager
def dynamic_context(model: nn.Module, context: str | Sequence[int] | AttentionContext) -> Iterator[list[int]]:
    """Within the block, the model has the context `context`; afterwards, on an error too, all is as it was.

        >>> with dynamic_context(model, "low"):
        ...     encoded = model.forward(audio, lengths, apply_mask=False)

    Args and errors are those of `set_dynamic_context`. Blocks may be nested.
    """
    owner, encoder = _model_and_encoder(model)
    encoder_state = encoder.context_state()
    processor = _mask_processor(owner)
    if processor is not None:
        masking_state = (getattr(owner, "masking_follows_attention", True), processor.left_context_size)
    try:
        yield set_dynamic_context(owner, context)
    finally:
        encoder.restore_context_state(encoder_state)
        if processor is not None:
            owner.masking_follows_attention, processor.left_context_size = masking_state


def _model_and_encoder(model: nn.Module) -> tuple[nn.Module, ConformerEncoder]:
    """The model without its wrappers (DDP, torch.compile), and its Conformer encoder."""
    owner = model
    while not hasattr(owner, "encoder") and isinstance(owner, nn.Module):
        owner = getattr(owner, "_orig_mod", getattr(owner, "module", None))
    encoder = getattr(owner, "encoder", None)
    for wrapped in ("_orig_mod", "encoder"):
        if not isinstance(encoder, ConformerEncoder):
            encoder = getattr(encoder, wrapped, encoder)
    if not isinstance(encoder, ConformerEncoder):
        raise TypeError(
            f"model is a {type(model).__name__} whose encoder is {type(encoder).__name__}, "
            "but must be a model with a ConformerEncoder"
        )
    return owner, encoder


def _mask_processor(owner: nn.Module) -> nn.Module | None:
    """The model's masking, where it has one that takes a left context."""
    processor = getattr(owner, "mask_processor", None)
    return processor if hasattr(processor, "left_context_size") else None


def _give_left_context(owner: nn.Module, left: int) -> None:
    processor = _mask_processor(owner)
    processor.left_context_size = left
    if not processor.causal:
        warn_once(
            owner,
            "masking is not causal",
            "The model's masking is not causal (masking.causal: false), so nothing reads its left_context_size; "
            "set masking.causal: true in the config to confine masking to the attention's left context.",
        )


def _presets(owner: nn.Module) -> Mapping[str, Any] | None:
    """The presets that the model's config brings along, by name."""
    config = getattr(owner, "cfg", None)
    return config.get("context_presets", None) if config is not None else None
