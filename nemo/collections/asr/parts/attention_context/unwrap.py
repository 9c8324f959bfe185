"""Looks through what DDP, `torch.compile`, activation checkpointing and feature extractors put around a module."""

from typing import Any

from torch import nn

from nemo.collections.asr.parts.attention_context.encoder_context import EncoderContext

__all__ = ["find_conformer", "find_encoder_context", "unwrap"]

_COMPILED, _CHECKPOINTED, _PARALLEL = "_orig_mod", "_checkpoint_wrapped_module", "module"


def unwrap(module: Any, holding: str | None = None) -> Any:
    """The module inside its wrappers (DDP and its kin, `torch.compile`, activation checkpointing), however nested.

    Args:
        module: a module; anything else is returned as it is.
        holding: the name of a child module; unwrapping stops at a module that has it.
    """
    while isinstance(module, nn.Module):
        # Children, not attributes: some wrappers pass on the attributes of what they wrap.
        children = module._modules
        if holding is not None and holding in children:
            return module
        wrapped = next((name for name in (_COMPILED, _CHECKPOINTED) if name in children), None)
        if wrapped is None and list(children) == [_PARALLEL]:
            wrapped = _PARALLEL
        if wrapped is None:
            return module
        module = children[wrapped]
    return module


def find_encoder_context(encoder: Any) -> EncoderContext | None:
    """The context of an encoder, behind wrappers and multi-layer feature extractors; None for another kind."""
    while isinstance(encoder := unwrap(encoder, holding="encoder"), nn.Module):
        context = encoder.__dict__.get("context")
        if isinstance(context, EncoderContext):
            return context
        encoder = encoder._modules.get("encoder")
    return None


def find_conformer(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A model without its wrappers, and its Conformer encoder without its own.

    Raises:
        TypeError: `model` has no Conformer encoder.
    """
    owner = unwrap(model, holding="encoder")
    encoder = getattr(owner, "encoder", None)
    context = find_encoder_context(encoder)
    if context is None:
        raise TypeError(
            f"model must be a model with a ConformerEncoder; got a {type(owner).__name__} whose encoder is "
            f"{type(encoder).__name__}"
        )
    return owner, context.encoder
