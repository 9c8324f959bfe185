"""Contexts of training: one for each micro-batch, equal on all ranks, the same after a resume."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from nemo.collections.asr.parts.attention_context.encoder_context import EncoderContext
from nemo.collections.asr.parts.attention_context.sampling import ContextSampler
from nemo.collections.asr.parts.attention_context.unwrap import find_encoder_context
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["ContextSampling", "load_sampler", "sampled_context", "save_sampler"]

_KEY = "context_sampler"


class ContextSampling(pl.Callback):
    """Samples the attention context of every training batch, for pretraining and fine-tuning alike.

    NeMo's encoder samples from Python's random state, so that ranks differ and each step waits for the rank with the
    longest context. This callback tells the encoder which context to take, from a seed and a count of batches, and
    logs it. `set_dynamic_context` overrides it while it holds.

    NeMo's SSL models add it by themselves, and NeMo's ASR models where `model.context_seed` is in their config. The
    count is in the Lightning checkpoint.

    Args:
        context: the context of the model's encoder, with a sampler.
    """

    def __init__(self, context: EncoderContext):
        self.context = context

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        current = self.context.begin_batch()
        model.log_dict({"att_context_left": float(current.left), "att_context_right": float(current.right)})

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.context.end_batch()

    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.context.leave_to_nemo()

    def on_exception(self, trainer: pl.Trainer, model: pl.LightningModule, exception: BaseException) -> None:
        self.context.leave_to_nemo()


def sampled_context(model: pl.LightningModule) -> EncoderContext | None:
    """The context of a model whose config asks, by `model.context_seed`, to sample it; with its sampler.

    None without that key, or for an encoder with a single context.

    Raises:
        TypeError: the model's encoder is no `ConformerEncoder`, or the seed no whole number.
    """
    seed = model.cfg.get("context_seed", None)
    if seed is None:
        return None
    check_whole_number("model.context_seed", seed, allowed="a whole number, or null to leave contexts to NeMo")
    encoder = getattr(model, "encoder", None)
    context = find_encoder_context(encoder)
    if context is None:
        raise TypeError(
            f"model.context_seed must be null for a model without a ConformerEncoder; got {seed}, and the model's "
            f"encoder is {type(encoder).__name__}"
        )
    if len(context.trained) == 1:
        return None
    if context.sampler is None:
        context.sampler = ContextSampler(context.trained, context.encoder.att_context_probs, seed=seed)
    return context


def save_sampler(context: EncoderContext | None, checkpoint: dict[str, Any]) -> None:
    """Puts the sampler's state into a Lightning checkpoint."""
    if context is not None:
        checkpoint[_KEY] = context.training_sampler.state_dict()


def load_sampler(context: EncoderContext | None, checkpoint: Mapping[str, Any]) -> None:
    """Takes up the sampler's state; a checkpoint of NeMo's has none, and the count starts at 0.

    Raises:
        ValueError: the checkpoint was trained with another seed, other contexts or other probabilities.
    """
    # Version 0.1.0 kept the state of fine-tuning among those of the callbacks.
    state = checkpoint.get(_KEY) or checkpoint.get("callbacks", {}).get("ContextDrawing")
    if context is not None and state is not None:
        context.training_sampler.load_state_dict(state)
