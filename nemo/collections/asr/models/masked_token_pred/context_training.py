"""The contexts of training: what samples them, what a checkpoint keeps of it, which one the last forward had."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback

from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.parts.attention_context import ContextSampler, EncoderContext
from nemo.collections.asr.parts.attention_context.callback import ContextSampling, load_sampler, save_sampler
from nemo.collections.asr.parts.attention_context.unwrap import find_encoder_context

__all__ = ["ContextTraining"]


class ContextTraining(ModelPart):
    """A mixin of the masked token prediction models."""

    @property
    def attention_context(self) -> EncoderContext | None:
        """The owner of the encoder's attention context; None for an encoder that has none."""
        return find_encoder_context(self.encoder)

    @property
    def context_sampler(self) -> ContextSampler:
        """What samples the contexts of training.

        Raises:
            AttributeError: the encoder has no contexts.
        """
        context = self.attention_context
        if context is None or context.sampler is None:
            raise AttributeError(f"{type(self.encoder).__name__} has no attention contexts to sample")
        return context.sampler

    @property
    def current_att_context(self) -> list[int] | None:
        """The context of the last forward, `[left, right]` in encoder frames."""
        context = self.attention_context
        return None if context is None or context.current is None else context.current.as_list()

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Adds the callback that samples the context of each micro-batch."""
        callbacks = super().configure_callbacks()
        context = self.attention_context
        return callbacks if context is None else [*callbacks, ContextSampling(context)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the count of training batches, so that a resumed run samples what an unbroken one would."""
        super().on_save_checkpoint(checkpoint)
        save_sampler(self.attention_context, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the count of training batches; a checkpoint of NeMo's has none, and starts at 0."""
        super().on_load_checkpoint(checkpoint)
        load_sampler(self.attention_context, checkpoint)
