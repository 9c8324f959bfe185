"""ASR models that sample contexts as pretraining does, where `model.context_seed` is set, and save clean keys."""

import functools
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback

from nemo.collections.asr.models.asr_model import ASRModel
from nemo.collections.asr.parts.attention_context.callback import (
    ContextSampling,
    load_sampler,
    sampled_context,
    save_sampler,
)
from nemo.collections.asr.parts.attention_context.unwrap import find_encoder_context
from nemo.collections.asr.parts.utils.clean_keys import keep_keys_clean


@functools.wraps(ASRModel.__init__)
def __init__(self: ASRModel, *args: Any, **kwargs: Any) -> None:
    super(ASRModel, self).__init__(*args, **kwargs)
    keep_keys_clean(self)


def configure_callbacks(self: ASRModel) -> Sequence[Callback] | Callback:
    """Adds the callback that samples contexts, for an encoder with several of them; not without `context_seed`."""
    context = sampled_context(self)
    callbacks = super(ASRModel, self).configure_callbacks()
    return callbacks if context is None else [*callbacks, ContextSampling(context)]


def on_save_checkpoint(self: ASRModel, checkpoint: dict[str, Any]) -> None:
    """Keeps the count of training batches, so that a resumed run samples what an unbroken one would."""
    super(ASRModel, self).on_save_checkpoint(checkpoint)
    save_sampler(sampled_context(self), checkpoint)


def on_load_checkpoint(self: ASRModel, checkpoint: dict[str, Any]) -> None:
    """Takes up the count of training batches."""
    super(ASRModel, self).on_load_checkpoint(checkpoint)
    load_sampler(sampled_context(self), checkpoint)


def current_att_context(self: ASRModel) -> list[int] | None:
    """The context of the last training batch, `[left, right]` in encoder frames, where contexts are sampled."""
    context = find_encoder_context(getattr(self, "encoder", None))
    return None if context is None or context.current is None else context.current.as_list()


ASRModel.__init__ = __init__
ASRModel.configure_callbacks = configure_callbacks
ASRModel.on_save_checkpoint = on_save_checkpoint
ASRModel.on_load_checkpoint = on_load_checkpoint
ASRModel.current_att_context = property(current_att_context)
