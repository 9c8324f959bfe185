"""The tokens that a model is asked for: those of the clean speech."""

import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor

from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures
from nemo.collections.asr.modules.ssl_modules.fitted_targets import FittedTargets

__all__ = ["TargetTokens", "resolve_fixed_statistics"]


def resolve_fixed_statistics(cfg: DictConfig) -> None:
    """Replaces `preprocessor.normalize: {fixed_from: FILE}` by the numbers in the file, so that they are saved.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `FittedTargets.load`.
    """
    normalize = cfg.preprocessor.get("normalize")
    if not isinstance(normalize, DictConfig) or "fixed_from" not in normalize:
        return
    fitted = FittedTargets.load(normalize.fixed_from, name="model.preprocessor.normalize.fixed_from")
    with open_dict(cfg):
        cfg.preprocessor.normalize = {"fixed_mean": list(fitted.mean), "fixed_std": list(fitted.std)}


def _has_fixed_features(cfg: DictConfig) -> bool:
    return isinstance(cfg.preprocessor.get("normalize"), DictConfig)


class TargetTokens(ModelPart):
    """A mixin of the masked token prediction models."""

    def _take_fitted_targets(self) -> None:
        """Takes projection and codebooks from `model.fitted_targets`, if a new model is built.

        A restored one has them in its weights, and needs no file.

        Raises:
            FileNotFoundError, TypeError, ValueError: the file is not one that fits; or masking comes after the
                convolutions, where tokens are not made of features.
        """
        file = self.cfg.get("fitted_targets")
        if file is None or self._is_model_being_restored():
            return
        if self.pre_encoder is not None:
            raise ValueError(
                f"model.fitted_targets must be null with mask_position: post_conv, where tokens are made of encoder "
                f"frames; got {file}"
            )
        FittedTargets.load(file).write_into(self.quantizer, fixed_features=_has_fixed_features(self.cfg))

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
