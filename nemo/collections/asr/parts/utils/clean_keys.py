"""State dicts whose keys are those of the bare model, whatever was put around its parts."""

from typing import Any

from torch import nn

__all__ = ["keep_keys_clean", "without_wrappers"]

_COMPILED, _CHECKPOINTED = "_orig_mod.", "_checkpoint_wrapped_module."
"""What `torch.compile` and activation checkpointing add to a key."""


def without_wrappers(key: str) -> str:
    """A key of a state dict without the names of wrappers."""
    return key.replace(_COMPILED, "").replace(_CHECKPOINTED, "")


def keep_keys_clean(model: nn.Module) -> None:
    """From now on the model's state dict has clean keys, and it loads one whose keys are clean or not.

    So a model with a compiled or a checkpointed encoder is saved as the bare model would be, and takes its files.
    """
    model.register_state_dict_post_hook(_clean_saved_keys)
    model.register_load_state_dict_pre_hook(_match_loaded_keys)


def _clean_saved_keys(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    entries = list(state_dict.items())
    state_dict.clear()  # renamed in place: a caller may hold this very dict
    for key, value in entries:
        state_dict[without_wrappers(key) if key.startswith(prefix) else key] = value


def _match_loaded_keys(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    names = [name for name, _ in (*module.named_parameters(remove_duplicate=False), *module.named_buffers())]
    # Activation checkpointing adds its own part when it loads.
    ours = {prefix + without_wrappers(name): prefix + name.replace(_CHECKPOINTED, "") for name in names}
    for key in list(state_dict):
        clean = without_wrappers(key)
        name = ours.get(clean, clean)
        if name != key and key.startswith(prefix):
            state_dict[name] = state_dict.pop(key)
