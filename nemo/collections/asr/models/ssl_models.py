"""Masked token prediction in which masking and attention share one context in every forward.

Read `forward`, then `_encode`. The rest of the models is in `masked_token_pred/`, a file for each idea.
"""

from typing import Any

from lightning.pytorch import Trainer
from omegaconf import DictConfig
from torch import Tensor

from nemo.collections.asr.data.audio_to_text_dali import DALIOutputs
from nemo.collections.asr.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss
from nemo.collections.asr.models.masked_token_pred.alignment import (
    align_masking,
    check_agreement,
    loss_config,
    target_shift_of,
)
from nemo.collections.asr.models.masked_token_pred.context_training import ContextTraining
from nemo.collections.asr.models.masked_token_pred.future_prediction import FuturePrediction
from nemo.collections.asr.models.masked_token_pred.input_types import with_forward_names
from nemo.collections.asr.models.masked_token_pred.mask_position import prepare_config, restore_config
from nemo.collections.asr.models.masked_token_pred.noisy_speech_data import NoisySpeechData
from nemo.collections.asr.models.masked_token_pred.objective import Objective
from nemo.collections.asr.models.masked_token_pred.prediction import Prediction
from nemo.collections.asr.models.masked_token_pred.saving import ModelFiles
from nemo.collections.asr.models.masked_token_pred.speech_features import (
    SpeechFeatures,
    drop_none,
    features_of,
    only_one,
)
from nemo.collections.asr.models.masked_token_pred.target_tokens import TargetTokens, resolve_fixed_statistics
from nemo.collections.asr.models.masked_token_pred.training_logs import CodebookLogs
from nemo.collections.asr.models.masked_token_pred.training_loss import TrainingLoss
from nemo.collections.asr.models.masked_token_pred.training_run import TrainingRun
from nemo.collections.asr.models.masked_token_pred.validation import ContextValidation
from nemo.collections.asr.models.ssl_models import (
    EncDecDenoiseMaskedTokenPredModel as NemoEncDecDenoiseMaskedTokenPredModel,
)
from nemo.collections.asr.models.ssl_models import EncDecMaskedTokenPredModel as NemoEncDecMaskedTokenPredModel
from nemo.collections.asr.modules.ssl_modules.codebook_health import CodebookHealth
from nemo.collections.asr.parts.attention_context import AttentionContext, ContextSampler, EncoderContext
from nemo.collections.asr.parts.utils.clean_keys import keep_keys_clean
from nemo.collections.asr.parts.utils.warn_once import warn_once
from nemo.core.classes.common import typecheck
from nemo.core.neural_types import NeuralType
from nemo.utils.model_utils import convert_model_config_to_dict_config


class EncDecMaskedTokenPredModel(
    ContextTraining,
    TrainingRun,
    TrainingLoss,
    FuturePrediction,
    TargetTokens,
    ContextValidation,
    Prediction,
    ModelFiles,
    NemoEncDecMaskedTokenPredModel,
):
    """Masked token prediction (BEST-RQ) with a streaming encoder that is trained for several attention contexts.

    Beyond NeMo's class:

    - Masking and attention use one context in every forward. `forward` takes audio and lengths by position.
    - In training the context is sampled by `encoder.att_context_probs` from `context_seed` (default 0) and a count of
      micro-batches. It is equal on all ranks. The checkpoint keeps the count.
    - Validation reports the loss and the accuracy of every trained context, on masks that never change.
    - Targets are aligned to what the subsampling has seen (`target_shift`: `auto`, or encoder frames).
    - `fitted_targets` names a file of a tokenizer that was fitted to data (`fit_targets.py`).
    - `objective` adds the prediction of future tokens to masked prediction, or replaces it (`Objective`).

    Attributes:
        attention_context: the encoder's `EncoderContext`; None for an encoder that has none.
        codebook_health: codes used and perplexity of targets and predictions over the last training batches.
        validation_contexts: the contexts of validation; all trained ones unless set.
        target_shift: encoder frame `k + target_shift` predicts token `k`.
        objective: what pretraining asks for.
        future_heads: the heads of future-token prediction; None without it.

    Raises (at construction):
        ValueError: a reduction layer, a subsampling whose alignment is unknown, a trained left context of 0 with
            causal masking, entries of the config that do not fit one another (`check_agreement`), or an entry that
            its own module refuses.
    """

    def __init__(self, cfg: DictConfig, trainer: Trainer | None = None):
        cfg = convert_model_config_to_dict_config(cfg)
        resolve_fixed_statistics(cfg)
        as_written = prepare_config(cfg)
        super().__init__(cfg, trainer)
        self.objective = Objective.of(self.cfg.get("objective"))
        self.codebook_health: CodebookHealth | None = None
        self._codebook_logs: CodebookLogs | None = None
        self._last_validation = {}
        if self.attention_context is not None:
            self._align(self.attention_context)
        self._add_future_heads(self.attention_context)
        self._take_fitted_targets()
        restore_config(self.cfg, as_written)
        check_agreement(self.cfg, self.encoder)
        keep_keys_clean(self)

    def _align(self, context: EncoderContext) -> None:
        """Brings loss, masking and contexts of training to what this encoder needs, or refuses the config."""
        after_convolutions = self.pre_encoder is not None
        self.target_shift = target_shift_of(self.cfg, context.encoder, after_convolutions)
        if isinstance(self.loss, (MLMLoss, MultiMLMLoss)):
            self.loss = self.from_config_dict(loss_config(self.cfg, self.target_shift))
            self.codebook_health = CodebookHealth(self.quantizer.num_classes, self.quantizer.num_books)
            self._codebook_logs = CodebookLogs(self.codebook_health)
        align_masking(self.mask_processor, self.cfg, context, after_convolutions, self.objective.masks)
        context.sampler = ContextSampler(
            context.trained,
            context.encoder.att_context_probs,
            seed=self.cfg.get("context_seed", 0),
            name="encoder.att_context_probs",
        )

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """The forward's arguments; NeMo's type check refuses any other."""
        return with_forward_names(super().input_types)

    def forward(
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
        apply_mask: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predicts a token for every encoder frame.

        Args:
            input_signal: audio `[B, N]`, samples in [-1, 1] at the preprocessor's rate.
            input_signal_length: `[B]`, in samples.
            processed_signal: features `[B, D, T]` instead of audio.
            processed_signal_length: `[B]`, in feature frames.
            apply_mask: hides blocks of the features from the encoder, as in training.

        Returns:
            Log-probabilities `[B, S, C, Q]` (`[B, S, C]` if the config squeezes a single codebook), encoder lengths
            `[B]`, masks `[B, D, T]` (1 where hidden), and the target tokens `[B, K, Q]`, `K = ceil(T / factor)`.

        Raises:
            ValueError: neither audio nor features, or both, or no lengths; or a context set by hand that the encoder
                cannot take.
        """
        arguments = drop_none(
            input_signal=input_signal,
            input_signal_length=input_signal_length,
            processed_signal=processed_signal,
            processed_signal_length=processed_signal_length,
        )
        return self._typed_forward(apply_mask=apply_mask, **arguments)

    @typecheck()
    def _typed_forward(self, apply_mask: bool, **arguments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.training and not apply_mask:
            warn_once(
                self,
                "unmasked forward in training mode",
                "forward(apply_mask=False) runs in training mode, so dropout is on and contexts may be sampled; "
                "call model.eval() first for features that can be reproduced.",
            )
        encoded, encoded_len, masks, tokens = self._encoded_and_tokens(self._features(**arguments), apply_mask)
        return self.decoder(encoder_output=encoded), encoded_len, masks, tokens

    def _features(self, **inputs: Tensor) -> SpeechFeatures:
        features, lengths = features_of(self.preprocessor, inputs, "input_signal", "processed_signal")
        return SpeechFeatures.without_noise(features, lengths)

    def _encoded_and_tokens(self, features: SpeechFeatures, apply_mask: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `forward`, with the encoder's frames `[B, D, S]` in place of log-probabilities."""
        context = self.attention_context.of_next_forward() if self.attention_context is not None else None
        encoded, encoded_len, masks = self._encode(features, apply_mask, context)
        return encoded, encoded_len, masks, self._tokens(features, encoded_len)

    def _encode(
        self,
        features: SpeechFeatures,
        apply_mask: bool,
        context: AttentionContext | None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks and encodes: frames `[B, D, S]`, their lengths `[B]`, and masks as `forward` returns them.

        `mask` `[B, T]` (feature frames; encoder frames after the convolutions) takes the place of a sampled one.
        """
        owner = self.attention_context
        left = None if context is None or owner is None else owner.left_for_masking(context)
        if self.pre_encoder is not None:
            self.pre_encoder.set_masking_enabled(apply_mask, effective_left_context=left, mask=mask)
            try:
                encoded, encoded_len = self.encoder(audio_signal=features.noisy, length=features.noisy_lengths)
            finally:
                self.pre_encoder.set_masking_enabled(False)
            self._mask_lengths = encoded_len
            return encoded, encoded_len, self.pre_encoder.get_current_mask()
        signal, masks = self._masked(features, apply_mask, left, mask)
        encoded, encoded_len = self.encoder(audio_signal=signal, length=features.noisy_lengths)
        self._mask_lengths = features.noisy_lengths
        return encoded, encoded_len, masks

    def _masked(
        self, features: SpeechFeatures, apply_mask: bool, left: int | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The features that the encoder hears, and masks; both `[B, D, T]`."""
        if mask is not None:
            return self.mask_processor.write(features.noisy, mask)
        if not apply_mask:
            return features.noisy, features.noisy.new_zeros(()).expand_as(features.noisy)
        window = {"effective_left_context": left} if getattr(self.mask_processor, "causal", False) else {}
        return self.mask_processor(input_feats=features.noisy, input_lengths=features.noisy_lengths, **window)

    def training_step(self, batch: Any, batch_idx: int = 0) -> dict[str, Any]:
        """One micro-batch: its loss, its terms, and what was masked under its context."""
        loss, logs = self.training_loss(batch)
        logs["learning_rate"] = self._optimizer.param_groups[0]["lr"]
        logs |= {"global_step": self.trainer.global_step, "train_loss": loss}
        if self._codebook_logs is not None:
            logs |= self._codebook_logs.metrics(every=self.trainer.log_every_n_steps)
        return {"loss": loss, "log": logs}

    def speech_features(self, batch: Any) -> SpeechFeatures:
        """The features of a batch of this model's data sets, unless it is features already."""
        return batch if isinstance(batch, SpeechFeatures) else self._features(**self._arguments(batch))

    def _arguments(self, batch: Any) -> dict[str, Tensor]:
        """What `forward` is given of a batch."""
        signal, length = batch[0], batch[1]
        name = "processed_signal" if isinstance(batch, DALIOutputs) and batch.has_processed_signal else "input_signal"
        return {name: signal, f"{name}_length": length}

    @property
    def _has_library_forward(self) -> bool:
        """Whether `forward` is one of this module's, not a subclass's or one that was put on the model."""
        library = (EncDecMaskedTokenPredModel.forward, EncDecDenoiseMaskedTokenPredModel.forward)
        return getattr(self.forward, "__func__", None) in library


class EncDecDenoiseMaskedTokenPredModel(
    NoisySpeechData, EncDecMaskedTokenPredModel, NemoEncDecDenoiseMaskedTokenPredModel
):
    """NEST: masked token prediction whose encoder hears noisy speech, and whose targets come from the clean speech.

    Adds to NeMo's class what `EncDecMaskedTokenPredModel` adds. (Huang et al., "NEST: Self-supervised Fast Conformer
    as All-purpose Seasoning to Speech Processing Tasks", 2024, https://arxiv.org/abs/2408.13106.)
    """

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """The forward's arguments, under NeMo's typed names and under its argument names."""
        return with_forward_names(NemoEncDecDenoiseMaskedTokenPredModel.input_types.fget(self))

    def forward(  # type: ignore[override]  # NeMo's order of arguments
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
        noise_signal: Tensor | None = None,
        noise_signal_length: Tensor | None = None,
        processed_noise_signal: Tensor | None = None,
        processed_noise_signal_length: Tensor | None = None,
        noisy_input_signal: Tensor | None = None,
        noisy_input_signal_length: Tensor | None = None,
        processed_noisy_input_signal: Tensor | None = None,
        processed_noisy_input_signal_length: Tensor | None = None,
        apply_mask: bool = False,
        *,
        processed_noise_length: Tensor | None = None,
        processed_noisy_signal: Tensor | None = None,
        processed_noisy_signal_length: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predicts a token of the clean speech for every encoder frame of the noisy speech.

        Args:
            input_signal: clean audio `[B, N]`, samples in [-1, 1] at the preprocessor's rate.
            input_signal_length: `[B]`, in samples.
            processed_signal: features `[B, D, T]` of the clean audio instead.
            processed_signal_length: `[B]`, in feature frames.
            noise_signal, noise_signal_length, processed_noise_signal, processed_noise_signal_length: not used; taken
                because NeMo's data sets have them. `processed_noise_length` is NeMo's typed name for the last.
            noisy_input_signal: noisy audio `[B, N]`; without it the encoder hears the clean audio.
            noisy_input_signal_length: `[B]`, in samples.
            processed_noisy_input_signal: features `[B, D, T]` of the noisy audio instead; NeMo's typed name for them
                is `processed_noisy_signal`.
            processed_noisy_input_signal_length: `[B]`, in feature frames.
            apply_mask: hides blocks of the features from the encoder, as in training.

        Returns:
            As `EncDecMaskedTokenPredModel.forward`.

        Raises:
            ValueError: as `EncDecMaskedTokenPredModel.forward`, also for the noisy pair; or the same features under
                both of their names.
        """
        arguments = drop_none(
            input_signal=input_signal,
            input_signal_length=input_signal_length,
            processed_signal=processed_signal,
            processed_signal_length=processed_signal_length,
            noisy_input_signal=noisy_input_signal,
            noisy_input_signal_length=noisy_input_signal_length,
            processed_noisy_signal=only_one(
                processed_noisy_signal=processed_noisy_signal,
                processed_noisy_input_signal=processed_noisy_input_signal,
            ),
            processed_noisy_signal_length=only_one(
                processed_noisy_signal_length=processed_noisy_signal_length,
                processed_noisy_input_signal_length=processed_noisy_input_signal_length,
            ),
        )
        return self._typed_forward(apply_mask=apply_mask, **arguments)

    def _features(self, **inputs: Tensor) -> SpeechFeatures:
        clean, clean_lengths = features_of(self.preprocessor, inputs, "input_signal", "processed_signal")
        if not any("noisy" in name for name in inputs):
            return SpeechFeatures.without_noise(clean, clean_lengths)
        noisy, noisy_lengths = features_of(self.preprocessor, inputs, "noisy_input_signal", "processed_noisy_signal")
        return SpeechFeatures(clean, clean_lengths, noisy, noisy_lengths)

    def _arguments(self, batch: Any) -> dict[str, Tensor]:
        return {
            "input_signal": batch.audio,
            "input_signal_length": batch.audio_len,
            "noisy_input_signal": batch.noisy_audio,
            "noisy_input_signal_length": batch.noisy_audio_len,
        }
