"""Future-token prediction beside masked prediction, or in place of it: building, training and evaluation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nemo.collections.asr.losses.ssl_losses.future import FutureSums, FutureTargets, FutureTokenLoss
from nemo.collections.asr.models.masked_token_pred.alignment import heard_shift_of
from nemo.collections.asr.models.masked_token_pred.future_heads import FutureHeads
from nemo.collections.asr.models.masked_token_pred.future_totals import FutureTotals
from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures
from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking
from nemo.collections.asr.parts.attention_context import AttentionContext, EncoderContext
from nemo.collections.asr.parts.attention_context.lookahead import frames_ahead
from nemo.utils import logging

__all__ = ["FuturePrediction"]


class FuturePrediction(ModelPart):
    """A mixin of the masked token prediction models.

    Attributes:
        objective: what pretraining asks for.
        future_heads: a linear head for each step and codebook; None where future tokens are not predicted.
        future_loss: which tokens each frame is asked for; None likewise.
    """

    def _add_future_heads(self, context: EncoderContext | None) -> None:
        """Builds the heads, where the objective has a part for them; after all other modules, whose weights stay.

        Raises:
            ValueError: no trained context leaves anything to predict.
            TypeError: an encoder without an attention context.
        """
        self.future_heads = self.future_loss = None
        if not self.objective.predicts_future:
            return
        if context is None:
            raise TypeError(
                "model.objective.future must be 0 for an encoder whose attention context is not known; got "
                f"{self.objective.future} with a {type(self.encoder).__name__}"
            )
        heard_shift = heard_shift_of(context.encoder, after_convolutions=self.pre_encoder is not None)
        self.future_loss = FutureTokenLoss(self.objective.steps, self.target_shift, heard_shift)
        self._check_look_ahead(context)
        quantizer = self.quantizer
        self.future_heads = FutureHeads(
            context.encoder._feat_out, quantizer.num_classes, quantizer.num_books, self.objective.steps
        )
        context.chooses_tasks = self.objective.combination == "by_batch"
        if not self.objective.masks:
            # They get no gradient, and DDP would wait for one.
            self.decoder.requires_grad_(False)
            self.mask_processor.requires_grad_(False)

    def _check_look_ahead(self, context: EncoderContext) -> None:
        ahead = {trained: frames_ahead(context.encoder, trained) for trained in context.trained}
        left_out = [trained for trained in ahead if not self.future_loss.leaves_something(ahead[trained])]
        if len(left_out) == len(ahead):
            contexts = f"encoder.att_context_size {', '.join(map(str, left_out))}"
            limited = [min(frames) for frames in ahead.values() if frames is not None]
            if not limited:
                raise ValueError(
                    "model.objective.future must be 0 where every trained context has an unlimited right side, since "
                    f"all tokens have been heard; got {self.objective.future} with {contexts}"
                )
            raise ValueError(
                f"model.objective.steps must be at least {self.future_loss.first_step(min(limited))}, since earlier "
                f"tokens have been heard; got {self.objective.steps} with {contexts}, and convolutions that look "
                f"{context.encoder.conv_context_size[1]} encoder frames ahead in each layer"
            )
        if left_out:
            logging.info(
                f"Future-token prediction is left out for batches under {', '.join(map(str, left_out))}, where all "
                f"{self.objective.steps} tokens have been heard."
            )

    def _objective_loss(self, batch: Any) -> tuple[Tensor, dict[str, Any]]:
        """The loss of a micro-batch, and what to log of it.

        Every trainable weight takes part in every batch, if only with a gradient of zero: DDP waits for all of them.
        """
        features = self.speech_features(batch)
        context = self.attention_context.of_next_forward()
        ahead = self._look_ahead(context)
        shares = self.objective.shares_of_batch(self.attention_context.remainder, future_left=ahead is not None)
        masked_share, future_share = shares
        logs: dict[str, Any] = {"future_left_out": float(ahead is None)}
        loss, encoded = features.noisy.new_zeros(()), None
        if masked_share:
            encoded, encoded_len, masks = self._encode(features, True, context)
            tokens, token_lengths = self._tokens_and_lengths(features, encoded_len)
            masked_loss, masks = self._loss_of_encoded(encoded, encoded_len, masks, tokens)
            loss = masked_share * masked_loss
            logs |= {"train_masked_loss": masked_loss, **self._mask_logs(masks)}
        if encoded is None or (future_share and self.objective.combination == "two_forwards"):
            encoded, encoded_len, _ = self._encode(features, False, context)
            tokens, token_lengths = self._tokens_and_lengths(features, encoded_len)
        if not masked_share:
            loss = loss + self._nothing_of_masking(encoded)
        if ahead is None or not future_share:
            return loss + self._nothing_of_heads(encoded), logs
        sums, predictions, targets = self._future_sums(encoded, encoded_len, tokens, token_lengths, ahead)
        if not masked_share and self._codebook_logs is not None:
            self._codebook_logs.update_future(targets, predictions)
        loss = loss + future_share * sums.mean
        return loss, logs | {"train_future_loss": sums.mean, **_accuracies("train_future_acc_step", sums.by_step)}

    def _look_ahead(self, context: AttentionContext) -> tuple[int, ...] | None:
        """As `frames_ahead`, and None too where nothing that was not heard is left to predict."""
        ahead = frames_ahead(self.attention_context.encoder, context)
        return ahead if self.future_loss.leaves_something(ahead) else None

    def evaluate_future(
        self,
        features: SpeechFeatures,
        mask: Tensor | None = None,
        contexts: Sequence[AttentionContext] | None = None,
    ) -> FutureTotals:
        """Loss and accuracy of future-token prediction under several contexts.

        Call it in evaluation mode and without autograd, as validation does.

        Args:
            features: of a batch, as `speech_features` makes them.
            mask: `[B, T]`, bool, as `evaluation_mask` makes it; None for clean features.
            contexts: None for `validation_contexts`.

        Returns:
            Sums for each context and step, which add up over batches. Those of a context that leaves nothing to
            predict are 0.

        Raises:
            ValueError: the objective has no part for future tokens.
        """
        if self.future_heads is None:
            raise ValueError(f"model.objective.future must be above 0 to predict future tokens; got {self.objective}")
        contexts = self.validation_contexts if contexts is None else contexts
        by_step = []
        for context in contexts:
            ahead = self._look_ahead(context)
            if ahead is None:
                by_step.append(features.noisy.new_zeros(self.objective.steps, 3, dtype=torch.float64))
                continue
            with self.attention_context.evaluating(context):
                encoded, encoded_len, _ = self._encode(features, mask is not None, context, mask)
            tokens, token_lengths = self._tokens_and_lengths(features, encoded_len)
            sums, _, _ = self._future_sums(encoded, encoded_len, tokens, token_lengths, ahead)
            by_step.append(sums.by_step)
        return FutureTotals(tuple(contexts), torch.stack(by_step))

    def _future_sums(
        self,
        encoded: Tensor,
        encoded_len: Tensor,
        tokens: Tensor,
        token_lengths: Tensor,
        ahead: Sequence[int],
    ) -> tuple[FutureSums, Tensor, FutureTargets]:
        """The sums over a batch encoded to `[B, D, S]`, and predictions and targets of the frames that predict."""
        tokens = tokens if tokens.dim() == 3 else tokens.unsqueeze(2)
        targets = self.future_loss.targets(tokens, token_lengths, encoded.shape[2], encoded_len, ahead)
        frames = encoded.transpose(1, 2)
        if frames.device.type == "cpu":  # elsewhere, locating them would wait for the device
            chosen = targets.counted.any(dim=2)
            frames, targets = frames[chosen], FutureTargets(*(part[chosen] for part in targets))
        else:
            frames, targets = frames.flatten(0, 1), FutureTargets(*(part.flatten(0, 1) for part in targets))
        return *self.future_heads(frames, targets), targets

    def _nothing_of_masking(self, encoded: Tensor) -> Tensor:
        """0, with gradients of zero for the decoder and the mask embedding where they train."""
        nothing = encoded.new_zeros(())
        if _trains(self.decoder):
            nothing = nothing + 0.0 * self.decoder(encoder_output=encoded[:, :, :1]).sum()
        if _trains(self.mask_processor) and isinstance(self.mask_processor, RandomBlockMasking):
            frame = encoded.new_zeros(1, self.mask_processor.mask_embedding.numel(), 1)
            not_masked = torch.zeros(1, 1, dtype=torch.bool, device=encoded.device)
            nothing = nothing + self.mask_processor.write(frame, not_masked)[0].sum()
        return nothing

    def _nothing_of_heads(self, encoded: Tensor) -> Tensor:
        """0, with gradients of zero for the heads and the encoder."""
        frames = encoded[:1, :, 0]
        shape = (1, self.objective.steps)
        ids = torch.zeros(*shape, self.quantizer.num_books, dtype=torch.long, device=encoded.device)
        counted = torch.zeros(shape, dtype=torch.bool, device=encoded.device)
        return self.future_heads(frames, FutureTargets(ids, counted))[0].total


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _accuracies(name: str, by_step: Tensor) -> dict[str, Tensor]:
    shares = (by_step[:, 1] / by_step[:, 2].clamp(min=1)).float()
    return {f"{name}{step}": share for step, share in enumerate(shares.unbind(), start=1)}
