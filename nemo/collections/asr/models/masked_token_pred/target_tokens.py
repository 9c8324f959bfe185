"""The tokens that a model is asked for: those of the clean speech."""

import torch
from torch import Tensor

from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures

__all__ = ["TargetTokens"]


class TargetTokens:
    """A mixin of the masked token prediction models."""

    def _tokens(self, features: SpeechFeatures, encoded_len: Tensor) -> Tensor:
        """Target tokens `[B, K, Q]` of the clean features, once the batch was encoded to `encoded_len` `[B]`."""
        return self._tokens_and_lengths(features, encoded_len)[0]

    def _tokens_and_lengths(self, features: SpeechFeatures, encoded_len: Tensor) -> tuple[Tensor, Tensor]:
        """As `_tokens`, with how many tokens are inside each utterance, `[B]`."""
        if self.pre_encoder is None or features.clean is not features.noisy:
            return self.tokenize(features)
        frames = self.pre_encoder.get_current_feat().transpose(1, 2)  # what was just encoded
        _, tokens = self.quantizer(input_signal=frames, input_lengths=encoded_len)
        return tokens, encoded_len

    def tokenize(self, features: SpeechFeatures) -> tuple[Tensor, Tensor]:
        """The tokens of the clean features, without encoding anything.

        Returns:
            Ids `[B, K, Q]` (`[B, K]` if the config squeezes a single codebook), and how many of the K tokens of each
            utterance are wholly inside it, `[B]`.
        """
        signal, lengths = features.clean, features.clean_lengths
        if self.pre_encoder is not None:
            with torch.no_grad():
                signal, lengths = self.pre_encoder.pre_encode(x=signal.transpose(1, 2), lengths=lengths)
            signal = signal.transpose(1, 2)
        _, tokens = self.quantizer(input_signal=signal, input_lengths=lengths)
        return tokens, lengths // self.quantizer.combine_time_steps
