"""Validation and test of every trained context, on masks and data that are the same in every epoch and run."""

import hashlib
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor

from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.models.masked_token_pred.objective_totals import ObjectiveTotals
from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures
from nemo.collections.asr.models.masked_token_pred.token_baselines import Baselines, TokenCounts
from nemo.collections.asr.parts.attention_context import AttentionContext, ContextTotals
from nemo.collections.asr.parts.utils.repeatable_data import make_repeatable
from nemo.utils import logging

__all__ = ["ContextValidation"]


class ContextValidation(ModelPart):
    """A mixin of the masked token prediction models: `val_loss`, and `val_loss_80_0`, `val_acc_80_0`, ...

    With future-token prediction also `val_masked_loss_80_0`, `val_future_loss_80_0`, `val_future_acc_step1_80_0`, ...
    """

    _validation_contexts: tuple[AttentionContext, ...] | None = None

    @property
    def validation_contexts(self) -> tuple[AttentionContext, ...]:
        """The contexts that validation and test report; unless set, those of `attention_context.validated`."""
        return self.attention_context.validated if self._validation_contexts is None else self._validation_contexts

    @validation_contexts.setter
    def validation_contexts(self, contexts: Sequence[Any] | None) -> None:
        if contexts is not None:
            contexts = AttentionContext.parse_all(contexts, name="validation_contexts")
            for context in contexts:
                self.attention_context.check(context, name="validation_contexts")
        self._validation_contexts = contexts

    def evaluate_contexts(
        self,
        features: SpeechFeatures,
        mask: Tensor | None = None,
        contexts: Sequence[AttentionContext | None] | None = None,
    ) -> ContextTotals:
        """Loss and accuracy of masked prediction under several contexts, all on the same mask.

        Call it in evaluation mode and without autograd, as validation does.

        Args:
            features: of a batch, as `speech_features` makes them.
            mask: `[B, T]`, bool, as `evaluation_mask` makes it; None to mask nothing.
            contexts: None for `validation_contexts`.

        Returns:
            Sums for each context, which add up over batches.
        """
        if contexts is None:
            contexts = self.validation_contexts if self.attention_context is not None else (None,)
        statistics, tokens = [], None
        for context in contexts:
            with self.attention_context.evaluating(context) if context is not None else nullcontext():
                encoded, encoded_len, masks = self._encode(features, mask is not None, context, mask)
                log_probs = self.decoder(encoder_output=encoded)
            tokens = self._tokens(features, encoded_len) if tokens is None else tokens
            statistics.append(
                self.loss.statistics(
                    masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len
                )
            )
        return ContextTotals.gather(contexts, statistics)

    def evaluation_mask(self, features: SpeechFeatures, batch_idx: int = 0, dataloader_idx: int = 0) -> Tensor:
        """The mask of an evaluation batch: the same in every epoch and run, under every context, on every device.

        It is sampled as `causal_window: sliding` does, opened for the smallest left context that is trained, so that
        no context has a blind target. For an encoder without contexts it is sampled as in training. The random state
        of training is not touched.

        Returns:
            `[B, T]`, bool; `[B, S]` for masking after the convolutions.
        """
        lengths, max_time = features.noisy_lengths, features.noisy.shape[-1]
        if self.pre_encoder is not None:
            with torch.no_grad():
                frames, lengths = self.pre_encoder.pre_encode(x=features.noisy.transpose(1, 2), lengths=lengths)
            max_time = frames.shape[1]
        identity = f"{self.cfg.get('context_seed', 0)}:{dataloader_idx}:{self.global_rank}:{batch_idx}"
        seed = int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=7).digest(), "big")
        generator = torch.Generator().manual_seed(seed)
        if self.attention_context is None:
            mask = self.mask_processor.sample(lengths.cpu(), max_time, generator=generator)
            return mask.to(features.noisy.device)
        lefts = [context.left for context in self.attention_context.trained if context.left > 0]
        mask = self.mask_processor.sample_causal(
            lengths.cpu(),
            max_time,
            effective_left_context=min(lefts, default=-1),
            causal_window="sliding",
            generator=generator,
        ).mask
        return mask.to(features.noisy.device)

    def inference_pass(
        self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0, mode: str = "val", apply_mask: bool = True
    ) -> dict[str, Any]:
        """Loss and accuracy of one batch under every validation context, all on the same mask.

        Returns:
            `{mode}_loss`, the mean over the contexts; and to add up: `{mode}_totals`, the `ContextTotals` of masked
            prediction, `{mode}_future_totals`, the `FutureTotals` (each None without its term), and `{mode}_tokens`,
            `TokenCounts`.
        """
        features = self.speech_features(batch)
        apply_mask = apply_mask and self.objective.masks
        mask = self.evaluation_mask(features, batch_idx, dataloader_idx) if apply_mask else None
        totals = self.evaluate_objective(features, mask)
        tokens = TokenCounts(self.quantizer.num_classes, lags=self.objective.steps)
        tokens.add(*self.tokenize(features))
        parts = {"totals": totals.masked, "future_totals": totals.future, "tokens": tokens}
        return {f"{mode}_loss": totals.mean_loss, **{f"{mode}_{name}": part for name, part in parts.items()}}

    def evaluate_objective(
        self,
        features: SpeechFeatures,
        mask: Tensor | None = None,
        contexts: Sequence[AttentionContext | None] | None = None,
    ) -> ObjectiveTotals:
        """The terms of the objective under several contexts; arguments as for `evaluate_contexts`.

        Future tokens are predicted from masked features where training does so (`one_forward`), else from clean ones.
        """
        masked = self.evaluate_contexts(features, mask, contexts) if self.objective.masks else None
        if not self.objective.predicts_future:
            return ObjectiveTotals(self.objective, masked, None)
        mask = mask if self.objective.combination == "one_forward" else None
        return ObjectiveTotals(self.objective, masked, self.evaluate_future(features, mask, contexts))

    def validation_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> dict[str, Any]:
        """Evaluates a batch under every validation context."""
        metrics = self.inference_pass(batch, batch_idx, dataloader_idx, mode="val", apply_mask=True)
        _append(self.validation_step_outputs, metrics, dataloader_idx)
        return metrics

    def test_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> dict[str, Any]:
        """As `validation_step`, under the names `test_...`."""
        metrics = self.inference_pass(batch, batch_idx, dataloader_idx, mode="test", apply_mask=True)
        _append(self.test_step_outputs, metrics, dataloader_idx)
        return metrics

    def multi_validation_epoch_end(self, outputs: list[dict[str, Any]], dataloader_idx: int = 0) -> dict[str, Any]:
        """`val_loss`, and `val_loss_80_0`, `val_acc_80_0`, ... over all batches and ranks, weighted by targets."""
        return self._epoch_end(outputs, "val", dataloader_idx)

    def multi_test_epoch_end(self, outputs: list[dict[str, Any]], dataloader_idx: int = 0) -> dict[str, Any]:
        """As `multi_validation_epoch_end`, under the names `test_...`."""
        return self._epoch_end(outputs, "test", dataloader_idx)

    def on_train_start(self) -> None:
        """Forgets the figures of the sanity check."""
        super().on_train_start()
        self._last_validation: dict[int, tuple[ObjectiveTotals, Baselines | None]] = {}

    def on_train_end(self) -> None:
        """Logs a table of the last validation, for each dataloader and context."""
        super().on_train_end()
        for dataloader_idx, (totals, baselines) in self._last_validation.items():
            several = len(self._last_validation) > 1
            name = f" ({self.get_validation_dataloader_prefix(dataloader_idx).rstrip('_')})" if several else ""
            logging.info(f"Validation by attention context{name}:\n{totals.table(baselines)}")

    def val_dataloader(self) -> Any:
        """The dataloaders of validation. Their noise is the same in every epoch, and not taken from training's."""
        return make_repeatable(super().val_dataloader(), self.cfg.get("context_seed", 0))

    def test_dataloader(self) -> Any:
        """As `val_dataloader`, for `test_ds`."""
        return make_repeatable(super().test_dataloader(), self.cfg.get("context_seed", 0))

    def setup_test_data(self, test_data_config: DictConfig) -> None:
        """Makes the dataloader of `test_ds`, as NeMo makes that of `validation_ds`."""
        with open_dict(test_data_config):
            test_data_config.setdefault("shuffle", False)
        self._update_dataset_config(dataset_name="test", config=test_data_config)
        self._test_dl = self._setup_dataloader_from_config(config=test_data_config)

    def _epoch_end(self, outputs: list[dict[str, Any]], mode: str, dataloader_idx: int) -> dict[str, Any]:
        by_batch = [
            ObjectiveTotals(self.objective, output[f"{mode}_totals"], output[f"{mode}_future_totals"])
            for output in outputs
        ]
        totals = ObjectiveTotals.sum(by_batch).reduced_over_ranks()
        logs: dict[str, Any] = totals.metrics(mode)
        baselines = self._baselines([output[f"{mode}_tokens"] for output in outputs])
        if not totals.has_targets:
            logging.warning(f"Epoch {self.current_epoch} had no target to evaluate, so {mode}_loss is logged as NaN.")
            logs = {name: torch.full_like(value, math.nan) for name, value in logs.items()}
        elif mode == "val":
            self._last_validation[dataloader_idx] = totals, baselines
        if baselines is not None and self.objective.predicts_future:
            logs |= baselines.metrics(mode)
        return {f"{mode}_loss": logs[f"{mode}_loss"], "log": logs}

    def _baselines(self, counts: list[TokenCounts]) -> Baselines | None:
        first, *others = counts
        for other in others:
            first.merge(other)
        return first.over_ranks().baselines()


def _append(outputs: list, metrics: dict[str, Any], dataloader_idx: int) -> None:
    """Adds to NeMo's list of outputs, which holds a list for each dataloader where there are several."""
    (outputs[dataloader_idx] if outputs and isinstance(outputs[0], list) else outputs).append(metrics)
