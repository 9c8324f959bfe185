"""The loss of a training batch; masked prediction decodes all frames, or on a CPU the masked frames alone."""

from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss
from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.models.masked_token_pred.training_logs import mask_logs
from nemo.collections.asr.modules.conv_asr import ConvASRDecoder
from nemo.collections.asr.modules.ssl_modules.multi_softmax_decoder import MultiSoftmaxDecoder

__all__ = ["TrainingLoss"]


class TrainingLoss(ModelPart):
    """A mixin of the masked token prediction models."""

    def training_loss(self, batch: Any) -> tuple[Tensor, dict[str, Any]]:
        """The loss of a micro-batch, and what to log of it.

        Args:
            batch: of this model's data sets, or `SpeechFeatures` that are computed already.
        """
        if self.objective.predicts_future:
            return self._objective_loss(batch)
        loss, masks = self._masked_loss(batch)
        return loss, self._mask_logs(masks)

    def _masked_loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss of masked prediction alone, and the masks `[B, D, T]`."""
        if self._has_library_forward:
            return self._loss_of_encoded(*self._encoded_and_tokens(self.speech_features(batch), apply_mask=True))
        return self._loss_of_frames(*self.forward(apply_mask=True, **self._arguments(batch)))

    def _mask_logs(self, masks: Tensor) -> dict[str, Tensor]:
        context = None if self.attention_context is None else self.attention_context.current
        return mask_logs(self.mask_processor, masks, self._mask_lengths, context)

    @property
    def _decodes_targets_alone(self) -> bool:
        """Whether training decodes masked frames only (CPU only: locating them would synchronise a GPU).

        Not with a `forward` of a subclass, which training has to call, nor with a decoder or a loss that may look at
        more than one frame.
        """
        return (
            self.device.type == "cpu"
            and self._has_library_forward
            and isinstance(self.decoder, (ConvASRDecoder, MultiSoftmaxDecoder))
            and isinstance(self.loss, (MLMLoss, MultiMLMLoss))
        )

    def _loss_of_encoded(
        self, encoded: Tensor, encoded_len: Tensor, masks: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of masked prediction from the encoder's frames `[B, D, S]`, and the masks."""
        if self._decodes_targets_alone:
            return self._loss_of_targets(encoded, encoded_len, masks, tokens)
        return self._loss_of_frames(self.decoder(encoder_output=encoded), encoded_len, masks, tokens)

    def _loss_of_targets(
        self, encoded: Tensor, encoded_len: Tensor, masks: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decodes the masked frames of `encoded` `[B, D, S]` alone."""
        loss: MLMLoss = getattr(self.loss, "mlm_loss", self.loss)
        decoder_frames = min(encoded.shape[2], tokens.shape[1] + loss.target_shift)
        utterances, positions = loss.locate(masks, decoder_frames, encoded_len)
        if len(utterances) == 0:
            return self._loss_of_frames(self.decoder(encoder_output=encoded), encoded_len, masks, tokens)
        frames = encoded[utterances, :, positions + loss.target_shift]
        log_probs = self.decoder(encoder_output=frames.T.unsqueeze(0))
        targets = tokens[utterances, positions].unsqueeze(0)
        if self._codebook_logs is not None:
            self._codebook_logs.update_targets(targets, log_probs)
        # As one utterance of targets alone, behind the frames that the shift passes over.
        passed_over = log_probs.new_zeros(1, loss.target_shift, *log_probs.shape[2:])
        log_probs = torch.cat([passed_over, log_probs], dim=1)
        return self.loss(masks=None, decoder_outputs=log_probs, targets=targets), masks

    def _loss_of_frames(
        self, log_probs: Tensor, encoded_len: Tensor, masks: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Takes what `forward` returns."""
        if self._codebook_logs is not None:
            loss = getattr(self.loss, "mlm_loss", self.loss)
            self._codebook_logs.update_frames(loss, log_probs, encoded_len, masks, tokens)
        return self.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len), masks
