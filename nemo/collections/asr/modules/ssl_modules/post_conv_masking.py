"""Masking after the convolutions (`mask_position: post_conv`): a wrapper around an encoder's subsampling."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nemo.collections.asr.modules.ssl_modules.mask_arguments import check_left

__all__ = ["PostConvMasking"]


class PostConvMasking(nn.Module):
    """What `masking.ConvFeatureMaksingWrapper` changes in NeMo's class of that name.

    It replaces an encoder's `pre_encode` and masks the features that come out of it.

    The subsampling is frozen, since targets are made from its features. Masked features keep their graph, so that a
    mask embedding that is not frozen trains. Attributes that this class does not have (`get_sampling_frames`,
    `get_streaming_cache_size`, ...) are those of the wrapped module.

    A state dict has NeMo's keys (`pre_encode.*`, `masking.*`). That of a plain subsampling module loads too.

    Args:
        pre_encode_module: called with `x` and `lengths`, returns features `[B, S, D]` and lengths `[B]`.
        masking_module: called with `input_feats` `[B, D, S]` and `input_lengths`, returns masked features and masks.
    """

    def __init__(self, pre_encode_module: nn.Module, masking_module: nn.Module) -> None:
        super().__init__(pre_encode_module, masking_module)
        self.pre_encode.requires_grad_(False)
        self.set_masking_enabled(False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Subsamples and masks.

        Args:
            x: `[B, T, D_in]`, feature frames.
            lengths: `[B]`, in feature frames.

        Returns:
            features `[B, S, D]` and lengths `[B]`, in encoder frames.
        """
        feats, lengths = self.pre_encode(x=x, lengths=lengths)
        self.curr_feat = feats.detach()
        feats = feats.transpose(1, 2)
        if not self.apply_mask:
            self.curr_mask = feats.new_zeros(()).expand_as(feats)
        elif self._ready_mask is not None:
            _check_fits(self._ready_mask, feats)
            feats, self.curr_mask = self.masking.write(feats, self._ready_mask)
        else:
            feats, self.curr_mask = self.masking(input_feats=feats, input_lengths=lengths, **self._masking_args)
        return feats.transpose(1, 2), lengths

    def set_masking_enabled(
        self, apply_mask: bool, effective_left_context: int | None = None, mask: Tensor | None = None
    ) -> None:
        """Sets how all forwards mask until the next call of this method.

        Args:
            apply_mask: whether to mask at all.
            effective_left_context: in encoder frames; passed to the masking module, if its forward takes it.
            mask: a mask to write instead of sampling one, bool `[B, S]`. The masking module needs a method
                `write(input_feats, mask)` for it.

        Raises:
            TypeError, ValueError: an argument is not what is said above. Nothing has changed then.
        """
        if effective_left_context is not None:
            effective_left_context = check_left("effective_left_context", effective_left_context)
        if mask is not None:
            self._check_mask(apply_mask, mask)
        self.apply_mask = apply_mask
        self._ready_mask = mask
        # Another masking module may have the two arguments of NeMo's alone.
        takes_context = effective_left_context is not None and _takes(self.masking.forward, "effective_left_context")
        self._masking_args = {"effective_left_context": effective_left_context} if takes_context else {}

    def _check_mask(self, apply_mask: bool, mask: Tensor) -> None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"mask must be a bool tensor [B, S]; got {got}")
        if mask.dim() != 2:
            raise ValueError(f"mask must be a bool tensor [B, S]; got {list(mask.shape)}")
        if not apply_mask:
            raise ValueError(f"mask must be None with apply_mask=False; got a mask {list(mask.shape)}")
        if not hasattr(self.masking, "write"):
            name = type(self.masking).__name__
            raise TypeError(f"mask must be None for a masking module without write(input_feats, mask); got {name}")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Copy and pickle look up special names, before there is a wrapped module or to copy it alone.
            wrapped = self.__dict__.get("_modules", {}).get("pre_encode")
            if wrapped is None or name.startswith("__"):
                raise
            return getattr(wrapped, name)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        keys = [key for key in state_dict if key.startswith(prefix)]
        nested = tuple(f"{prefix}{name}." for name in self._modules)
        if keys and not any(key.startswith(nested) for key in keys):
            # The state dict of a plain subsampling module. It has no mask embedding, so this one's is kept.
            for key in keys:
                state_dict[f"{prefix}pre_encode.{key[len(prefix) :]}"] = state_dict.pop(key)
            for name, value in self.masking.state_dict().items():
                state_dict[f"{prefix}masking.{name}"] = value
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _takes(function: Callable, argument: str) -> bool:
    parameters = inspect.signature(function).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_fits(mask: Tensor, feats: Tensor) -> None:
    """Refuses a mask that has not the batch and time of `feats` `[B, D, S]`."""
    expected = [feats.shape[0], feats.shape[2]]
    if list(mask.shape) != expected:
        raise ValueError(f"mask must be [B, S] = {expected} for these features; got {list(mask.shape)}")
