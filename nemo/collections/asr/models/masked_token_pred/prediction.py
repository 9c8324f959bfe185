"""`trainer.predict`: encoder frames of batches of speech."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures

__all__ = ["Prediction"]


class Prediction(ModelPart):
    """A mixin of the masked token prediction models."""

    def predict_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """The encoder's frames of unmasked, clean speech, under `encoder.att_context_size`.

        `trainer.predict(model, data_loader)` gives a list of what this gives for each batch.

            >>> frames, frame_lengths = model.predict_step((audio, lengths))
            >>> frames.shape[0] == len(frame_lengths) == len(audio)
            True

        Args:
            batch: audio `[B, N]` and its lengths `[B]`, in samples, or a batch of this model's data sets. Noise that
                these add is left out.
            batch_idx: not used.
            dataloader_idx: not used.

        Returns:
            Encoder frames `[B, D, S]` and their number in each utterance, `[B]`.

        Raises:
            TypeError: `batch` is neither.
        """
        features = self._clean_features(batch)
        context = None if self.attention_context is None else self.attention_context.of_next_forward()
        encoded, encoded_len, _ = self._encode(features, apply_mask=False, context=context)
        return encoded, encoded_len

    def _clean_features(self, batch: Any) -> SpeechFeatures:
        if isinstance(batch, Tensor) or (isinstance(batch, Sequence) and len(batch) < 2):
            raise TypeError(
                "batch must be (audio [B, N], lengths [B]) or a batch of the model's own data sets; got "
                f"{type(batch).__name__}"
            )
        if isinstance(batch, Sequence) and len(batch) == 2:
            audio, lengths = batch
            return self._features(input_signal=audio, input_signal_length=lengths)
        features = self.speech_features(batch)
        return SpeechFeatures.without_noise(features.clean, features.clean_lengths)
