"""Contexts of fine-tuning, drawn as in pretraining: one a batch, alike on all ranks, the same after a resume."""

from typing import Any

import lightning.pytorch as pl

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder, unwrapped_conformer
from nemo.collections.asr.parts.attention_context import ContextSampler

__all__ = ["ContextDrawing", "context_drawing_of"]


class ContextDrawing(pl.Callback):
    """Draws the attention context of every training batch from a seed and a count of batches.

    NeMo's encoder draws from Python's random state, so that ranks differ, and wait for the one with the longest
    context. This callback tells the encoder which context to take; the context of the last batch is
    `model.current_att_context`, and the loggers get it. `set_dynamic_context` overrides it while it holds.

    NeMo's ASR models add it by themselves when `model.context_seed` is in their config. The count is in the Lightning
    checkpoint, among the callbacks' states.

    Args:
        encoder: the model's encoder, trained for several contexts.
        seed: any whole number.
    """

    def __init__(self, encoder: ConformerEncoder, seed: int):
        self.encoder = encoder
        self.sampler = ContextSampler(encoder.att_context_size_all, encoder.att_context_probs, seed=seed)

    def on_train_batch_start(self, trainer: pl.Trainer, model: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        drawn = self.sampler.next()
        self.encoder.drawn_context = drawn
        context = self.encoder.evaluation_context() if self.encoder.context_pinned else drawn
        model.current_att_context = context.as_list()
        model.log_dict({"att_context_left": float(context.left), "att_context_right": float(context.right)})

    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.encoder.drawn_context = None

    def on_exception(self, trainer: pl.Trainer, model: pl.LightningModule, exception: BaseException) -> None:
        self.encoder.drawn_context = None

    def state_dict(self) -> dict[str, int]:
        return self.sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.sampler.load_state_dict(state_dict)


def context_drawing_of(model: pl.LightningModule) -> list[ContextDrawing]:
    """What a model's config asks for by `model.context_seed`; nothing for an encoder with a single context.

    Raises:
        TypeError: the model's encoder is no `ConformerEncoder`, or the seed no whole number.
    """
    seed = model.cfg.get("context_seed", None)
    if seed is None:
        return []
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"model.context_seed is {seed!r}, but must be a whole number, or null to leave it to NeMo")
    encoder = unwrapped_conformer(getattr(model, "encoder", None))
    if encoder is None:
        kind = type(getattr(model, "encoder", None)).__name__
        raise TypeError(
            f"model.context_seed is {seed}, but contexts are drawn for a ConformerEncoder, and the model's encoder is "
            f"{kind}; take model.context_seed out of the config"
        )
    return [ContextDrawing(encoder, seed)] if len(encoder.trained_contexts()) > 1 else []
