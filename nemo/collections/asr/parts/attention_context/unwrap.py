"""The Conformer encoder of a model, whatever is wrapped around the two."""

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder

__all__ = ["find_conformer"]

_WRAPPED = ("_orig_mod", "_checkpoint_wrapped_module", "module")
"""Where torch.compile, activation checkpointing and DDP keep the module that they wrap."""


def find_conformer(model: nn.Module) -> tuple[nn.Module, "ConformerEncoder"]:
    """The model without its wrappers, and its Conformer encoder without the encoder's.

    Wrappers are those of DDP, `torch.compile`, activation checkpointing and, around the encoder, NeMo's multi-layer
    feature extractor; they may be nested in any order.

    Raises:
        TypeError: `model` has no Conformer encoder.
    """
    owner = _unwrapped(model, _WRAPPED, "encoder")
    encoder = _unwrapped(getattr(owner, "encoder", None), (*_WRAPPED, "encoder"), "pre_encode")
    if "pre_encode" not in _children(encoder) or not hasattr(encoder, "att_context_size_all"):
        raise TypeError(
            "model must be a NeMo model with a ConformerEncoder; "
            f"got a {type(model).__name__} whose encoder is of type {type(encoder).__name__}"
        )
    return owner, encoder


def _unwrapped(module: Any, wrapped: tuple[str, ...], child: str) -> Any:
    """The first module that has a child of that name itself. Wrappers forward attributes, so `hasattr` is no help."""
    while child not in _children(module):
        inner = next((name for name in wrapped if name in _children(module)), None)
        if inner is None:
            break
        module = _children(module)[inner]
    return module


def _children(module: Any) -> dict[str, Any]:
    return module._modules if isinstance(module, nn.Module) else {}
