"""Masked token prediction in which masking and attention share one context in every forward."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.utils.data import DataLoader

from nemo.collections.asr.data.audio_to_text_dali import DALIOutputs
from nemo.collections.asr.data.audio_to_text_dataset import inject_dataloader_value_from_model_config
from nemo.collections.asr.data.dataset_builders import config_for_lhotse
from nemo.collections.asr.data.ssl_dataset import LhotseAudioNoiseDataset
from nemo.collections.asr.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss, target_mask, token_predictions
from nemo.collections.asr.models.ssl_models import (
    EncDecDenoiseMaskedTokenPredModel as NemoEncDecDenoiseMaskedTokenPredModel,
)
from nemo.collections.asr.models.ssl_models import EncDecMaskedTokenPredModel as NemoEncDecMaskedTokenPredModel
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder, unwrapped_conformer
from nemo.collections.asr.modules.conv_asr import ConvASRDecoder
from nemo.collections.asr.modules.ssl_modules.codebook_health import CodebookHealth
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
from nemo.collections.asr.modules.ssl_modules.multi_softmax_decoder import MultiSoftmaxDecoder
from nemo.collections.asr.modules.ssl_modules.target_alignment import resolve_target_shift
from nemo.collections.asr.parts.attention_context import AttentionContext, ContextSampler
from nemo.collections.asr.parts.attention_context.metrics import ContextTotals
from nemo.collections.asr.parts.utils.repeatable_data import make_repeatable
from nemo.collections.asr.parts.utils.sharding import full_state_dict, is_sharded, shard_weights
from nemo.collections.asr.parts.utils.warn_once import warn_once
from nemo.collections.asr.parts.utils.weight_report import reported_loading
from nemo.collections.common.data.lhotse import get_lhotse_dataloader_from_config
from nemo.core.classes.common import typecheck
from nemo.core.neural_types import LengthsType, NeuralType, SpectrogramType
from nemo.utils import logging
from nemo.utils.model_utils import convert_model_config_to_dict_config, wrap_training_step

_POST_CONV_KEYS = (
    "quantizer.feat_in",
    "quantizer.combine_time_steps",
    "masking.feat_in",
    "masking.block_size",
    "loss.combine_time_steps",
)
"""What masking after the convolutions changes in a config. The model is built from a changed copy, and keeps the
config as it was written."""


@dataclass(frozen=True)
class SpeechFeatures:
    """A batch as the model sees it: the targets are made from the clean features, the encoder hears the noisy ones."""

    clean: Tensor
    """[B, D, T] feature frames."""

    clean_lengths: Tensor
    """[B], in feature frames."""

    noisy: Tensor
    """[B, D, T] feature frames; the same tensor as `clean` where there is no noise."""

    noisy_lengths: Tensor
    """[B], in feature frames."""


class EncDecMaskedTokenPredModel(NemoEncDecMaskedTokenPredModel):
    """Masked token prediction (BEST-RQ) with a streaming encoder that is trained for several attention contexts.

    Beyond NeMo's class:

    - One attention context is chosen for every forward and is used by masking and attention alike; `forward` takes
      audio and lengths by position.
    - In training the context is drawn by `encoder.att_context_probs` from `context_seed` (default 0) and a count of
      micro-batches, alike on all ranks, kept in the checkpoint.
    - Validation reports the loss and the accuracy of every trained context, on masks that never change.
    - Targets are aligned to what the subsampling has seen (`target_shift`: `auto`, or encoder frames).

    Attributes:
        context_sampler: chooses the contexts of training.
        current_att_context: the context of the last forward, `[left, right]` in encoder frames.
        codebook_health: codes used and perplexity of targets and predictions over the last training batches.
        validation_contexts: the contexts of validation; all trained ones unless set.
        target_shift: encoder frame `k + target_shift` predicts token `k`.

    Raises (at construction):
        ValueError: a reduction layer, a subsampling whose alignment is unknown, a trained left context of 0 with
            causal masking, or any entry of the config that its own module refuses.
    """

    masking_follows_attention = True
    """Whether a forward gives masking the left context of its attention; `set_dynamic_context` decides."""

    def __init__(self, cfg: DictConfig, trainer: Trainer | None = None):
        cfg = convert_model_config_to_dict_config(cfg)
        as_written = _prepare_mask_position(cfg)
        super().__init__(cfg, trainer)
        self.current_att_context: list[int] | None = None
        self._batch_context: AttentionContext | None = None
        self._mask_lengths: Tensor | None = None
        self.codebook_health: CodebookHealth | None = None
        self._codebook_metrics: dict[str, float] = {}
        self._validation_totals: dict[int, ContextTotals] = {}
        self._validation_contexts: tuple[AttentionContext, ...] | None = None
        if self._conformer is not None:
            self._align_masking_and_targets()
            self.context_sampler = ContextSampler(
                self.encoder.att_context_size_all,
                self.encoder.att_context_probs,
                seed=self.cfg.get("context_seed", 0),
                name="encoder.att_context_probs",
            )
        with open_dict(self.cfg):
            for key, value in as_written.items():
                OmegaConf.update(self.cfg, key, value)

    def _align_masking_and_targets(self) -> None:
        """Puts mask processor and loss into the units of this encoder, or refuses what cannot be aligned."""
        if self.encoder.reduction_subsampling is not None:
            raise ValueError(
                "encoder.reduction is set, but masked token prediction needs one encoder frame for each target; "
                "set encoder.reduction: null"
            )
        after_convolutions = self.pre_encoder is not None
        pre_encode = self.pre_encoder.pre_encode if after_convolutions else self.encoder.pre_encode
        shift = resolve_target_shift(self.cfg.get("target_shift", "auto"), pre_encode, self.encoder.subsampling_factor)
        # After the convolutions, token k is made from encoder frame k itself.
        self.target_shift = 0 if after_convolutions and self.cfg.get("target_shift", "auto") == "auto" else shift
        if isinstance(self.loss, (MLMLoss, MultiMLMLoss)):
            self.codebook_health = CodebookHealth(self.quantizer.num_classes, self.quantizer.num_books)
            self.loss = self.from_config_dict(OmegaConf.create({**self.cfg.loss, "target_shift": self.target_shift}))
        if "subsampling_factor" not in self.cfg.masking:
            self.mask_processor.subsampling_factor = 1 if after_convolutions else self.encoder.subsampling_factor
        if getattr(self.mask_processor, "causal", False):
            blind = [context for context in self.encoder.trained_contexts() if context.left == 0]
            if blind:
                raise ValueError(
                    f"encoder.att_context_size lists {blind[0]}, but with masking.causal: true a left context of 0 "
                    "leaves nothing to mask, so it could never have a target; take it out or set masking.causal: false"
                )
            self.mask_processor.left_context_size = self.encoder.evaluation_context().left

    def configure_model(self) -> None:
        """Splits the weights over ranks under Lightning's `ModelParallelStrategy` (FSDP2); nothing otherwise."""
        if self.device_mesh is not None and not is_sharded(self):
            modules = [*self.encoder.layers, self.encoder, self.decoder, self.mask_processor]
            shard_weights(modules, whole=self, mesh=self.device_mesh)
            register_fsdp_forward_method(self.mask_processor, "write")

    def maybe_init_from_pretrained_checkpoint(self, cfg: DictConfig, map_location: str = "cpu") -> None:
        """Starts from the weights that `cfg` names (`init_from_nemo_model`, ...), and logs which of them fitted."""
        with reported_loading(self):
            super().maybe_init_from_pretrained_checkpoint(cfg, map_location)

    def save_to(self, save_path: str) -> None:
        """Writes a `.nemo` file; sharded weights are put together first, so that all ranks must call it then."""
        if not is_sharded(self):
            return super().save_to(save_path)
        weights = full_state_dict(self)
        self.state_dict = lambda: weights
        try:
            super().save_to(save_path)
        finally:
            del self.state_dict

    @property
    def _conformer(self) -> ConformerEncoder | None:
        return unwrapped_conformer(self.encoder)

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """The forward's arguments; NeMo's type check refuses any other."""
        return _with_forward_names(super().input_types)

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
            input_signal: audio [B, N], samples in [-1, 1] at the preprocessor's rate.
            input_signal_length: [B], in samples.
            processed_signal: features [B, D, T] instead of audio.
            processed_signal_length: [B], in feature frames.
            apply_mask: hides blocks of the features from the encoder, as in training.

        Returns:
            log-probabilities [B, T', classes, books] (without the last axis if the config squeezes a single book),
            encoder lengths [B], masks [B, D, T] (1 where hidden), and the target tokens [B, ceil(T / factor), books].

        Raises:
            ValueError: neither audio nor features, or both, or no lengths; or a context set by hand that the encoder
                cannot take.
        """
        given = dict(
            input_signal=input_signal,
            input_signal_length=input_signal_length,
            processed_signal=processed_signal,
            processed_signal_length=processed_signal_length,
        )
        return self._typed_forward(apply_mask=apply_mask, **_given(given))

    @typecheck()
    def _typed_forward(self, apply_mask: bool, **signals: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if self.training and not apply_mask:
            warn_once(
                self,
                "unmasked forward in training mode",
                "forward(apply_mask=False) runs in training mode, so dropout is on and contexts may be drawn; "
                "call model.eval() first for features that can be reproduced.",
            )
        encoded, encoded_len, masks, tokens = self._encoded_and_tokens(apply_mask, **signals)
        return self.decoder(encoder_output=encoded), encoded_len, masks, tokens

    def _encoded_and_tokens(self, apply_mask: bool, **signals: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `forward`, with what the decoder is given, [B, D, T'], in place of what it says."""
        features = self._features(**signals)
        encoded, encoded_len, masks = self._encode(features, apply_mask, self._choose_context())
        self._mask_lengths = features.noisy_lengths if self.pre_encoder is None else encoded_len
        return encoded, encoded_len, masks, self._tokens(features, encoded_len)

    def _features(self, **signals: Tensor) -> SpeechFeatures:
        clean, lengths = self._processed(signals, "input_signal", "processed_signal")
        return SpeechFeatures(clean, lengths, clean, lengths)

    def _processed(self, signals: dict[str, Tensor], audio: str, processed: str) -> tuple[Tensor, Tensor]:
        """Features [B, D, T] and lengths [B], computed from audio where they are not given."""
        given = [name for name in (audio, processed) if name in signals]
        if len(given) != 1:
            raise ValueError(
                f"forward needs either {audio} or {processed}, but was given {' and '.join(given) or 'neither'}"
            )
        length = f"{given[0]}_length"
        if length not in signals:
            raise ValueError(f"forward was given {given[0]} without {length} [B]")
        if given[0] == processed:
            return signals[processed], signals[length]
        return self.preprocessor(input_signal=signals[audio], length=signals[length])

    def _choose_context(self) -> AttentionContext | None:
        """The one context of this forward; None for an encoder without such contexts."""
        encoder = self._conformer
        if encoder is None:
            return None
        draws = encoder.training and not encoder.context_pinned and len(self.context_sampler.contexts) > 1
        if draws:
            context = self._batch_context or self.context_sampler.next()
        else:
            context = encoder.evaluation_context()
        encoder.drawn_context = context if draws else None
        self.current_att_context = context.as_list()
        return context

    def _encode(
        self,
        features: SpeechFeatures,
        apply_mask: bool,
        context: AttentionContext | None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks and encodes: frames [B, D, T'], their lengths [B], and masks as `forward` returns them.

        `mask` [B, T] (feature frames; encoder frames after the convolutions) takes the place of a drawn one.
        """
        left = context.left if context is not None and self.masking_follows_attention else None
        if self.pre_encoder is not None:
            self.pre_encoder.set_masking_enabled(apply_mask, effective_left_context=left, mask=mask)
            try:
                encoded, encoded_len = self.encoder(audio_signal=features.noisy, length=features.noisy_lengths)
            finally:
                self.pre_encoder.set_masking_enabled(False)
            masks = self.pre_encoder.get_current_mask()
        else:
            signal, masks = features.noisy, features.noisy.new_zeros(()).expand_as(features.noisy)
            if mask is not None:
                signal, masks = self.mask_processor.write(signal, mask)
            elif apply_mask:
                window = {"effective_left_context": left} if getattr(self.mask_processor, "causal", False) else {}
                signal, masks = self.mask_processor(input_feats=signal, input_lengths=features.noisy_lengths, **window)
            encoded, encoded_len = self.encoder(audio_signal=signal, length=features.noisy_lengths)
        return encoded, encoded_len, masks

    def _tokens(self, features: SpeechFeatures, encoded_len: Tensor) -> Tensor:
        """Target tokens of the clean features, once the batch was encoded to lengths `encoded_len` [B]."""
        if self.pre_encoder is None:
            signal, lengths = features.clean, features.clean_lengths
        elif features.clean is features.noisy:
            signal, lengths = self.pre_encoder.get_current_feat().transpose(1, 2), encoded_len
        else:
            with torch.no_grad():
                signal, lengths = self.pre_encoder.pre_encode(
                    x=features.clean.transpose(1, 2), lengths=features.clean_lengths
                )
            signal = signal.transpose(1, 2)
        _, tokens = self.quantizer(input_signal=signal, input_lengths=lengths)
        return tokens

    def training_step(self, batch: Any, batch_idx: int = 0) -> dict[str, Any]:
        """One micro-batch: draws its context, counts it, and logs the loss and what was masked under that context."""
        with self._counted_batch():
            loss, masks = self._training_loss(**self._signals(batch))
        logs = {
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "global_step": self.trainer.global_step,
            "train_loss": loss,
            **self._context_logs(masks),
            **self._codebook_logs(),
        }
        return {"loss": loss, "log": logs}

    def _training_loss(self, **signals: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and its masks as `forward` returns them."""
        if self._scores_targets_alone:
            return self._loss_of_targets(*self._encoded_and_tokens(apply_mask=True, **signals))
        return self._loss_of_frames(*self.forward(apply_mask=True, **signals))

    @property
    def _scores_targets_alone(self) -> bool:
        """Whether training's decoder is given the masked frames alone, which pays where finding them costs nothing.

        Not with a `forward` of somebody's own, which training has to call, nor with a decoder or a loss that may look
        at more than one frame.
        """
        own = (EncDecMaskedTokenPredModel.forward, EncDecDenoiseMaskedTokenPredModel.forward)
        return (
            self.device.type == "cpu"
            and getattr(self.forward, "__func__", None) in own
            and isinstance(self.decoder, (ConvASRDecoder, MultiSoftmaxDecoder))
            and isinstance(self.loss, (MLMLoss, MultiMLMLoss))
        )

    def _loss_of_targets(
        self, encoded: Tensor, encoded_len: Tensor, masks: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decodes the masked frames of `encoded` [B, D, T'] alone."""
        loss = getattr(self.loss, "mlm_loss", self.loss)
        decoder_frames = min(encoded.shape[2], tokens.shape[1] + loss.target_shift)
        utterances, positions = loss.locate(masks, decoder_frames, encoded_len)
        if len(utterances) == 0:
            return self._loss_of_frames(self.decoder(encoder_output=encoded), encoded_len, masks, tokens)
        frames = encoded[utterances, :, positions + loss.target_shift]
        log_probs = self.decoder(encoder_output=frames.T.unsqueeze(0))
        targets = tokens[utterances, positions].unsqueeze(0)
        if self.codebook_health is not None:
            self.codebook_health.update(targets, log_probs.detach().argmax(dim=2))
        # As one utterance of targets alone, behind the frames that the shift passes over.
        passed_over = log_probs.new_zeros(1, loss.target_shift, *log_probs.shape[2:])
        log_probs = torch.cat([passed_over, log_probs], dim=1)
        return self.loss(masks=None, decoder_outputs=log_probs, targets=targets), masks

    def _loss_of_frames(
        self, log_probs: Tensor, encoded_len: Tensor, masks: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Takes what `forward` returns."""
        if self.codebook_health is not None:
            loss = getattr(self.loss, "mlm_loss", self.loss)
            counted = target_mask(masks, loss.combine_time_steps, loss.mask_threshold, encoded_len, loss.target_shift)
            counted = counted[:, : tokens.shape[1]]
            predictions = token_predictions(log_probs, counted.shape[1], loss.target_shift)
            self.codebook_health.update(tokens[:, : counted.shape[1]], predictions, counted)
        return self.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len), masks

    @torch.no_grad()
    def _context_logs(self, masks: Tensor) -> dict[str, float | Tensor]:
        """The context of the last forward, and what causal masking hid under it; tensors that nobody waits for."""
        if self.current_att_context is None:
            return {}
        context = AttentionContext.parse(self.current_att_context)
        logs = {"att_context_left": float(context.left), "att_context_right": float(context.right)}
        if getattr(self.mask_processor, "causal", False):
            audit = audit_masks(masks, self._mask_lengths, context.left, self.mask_processor.subsampling_factor)
            logs[f"masked_fraction_{context.label}"] = audit.masked_fraction.mean()
            logs[f"targets_per_utterance_{context.label}"] = audit.targets.float().mean()
        return logs

    def _codebook_logs(self) -> dict[str, float]:
        """How much of the codebook is in use; looked at (and reduced over ranks) every `log_every_n_steps` batches."""
        if (
            self.codebook_health is not None
            and self.context_sampler.count % max(1, self.trainer.log_every_n_steps) == 0
        ):
            self._codebook_metrics = self.codebook_health.compute()
        return self._codebook_metrics

    @contextmanager
    def _counted_batch(self) -> Iterator[None]:
        """Within the block, every training forward uses the one context that was drawn for this micro-batch."""
        if self._conformer is not None:
            self._batch_context = self.context_sampler.next()
        try:
            yield
        finally:
            self._batch_context = None

    def _signals(self, batch: Any) -> dict[str, Tensor]:
        """The forward's arguments that a batch of this model's data sets holds."""
        signal, length = batch[0], batch[1]
        name = "processed_signal" if isinstance(batch, DALIOutputs) and batch.has_processed_signal else "input_signal"
        return {name: signal, f"{name}_length": length}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the count of training batches, so that a resumed run draws what an unbroken one would."""
        super().on_save_checkpoint(checkpoint)
        if self._conformer is not None:
            checkpoint["context_sampler"] = self.context_sampler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the count of training batches; a checkpoint of NeMo's has none, and starts at 0."""
        super().on_load_checkpoint(checkpoint)
        if "context_sampler" in checkpoint:
            self.context_sampler.load_state_dict(checkpoint["context_sampler"])

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what NeMo makes of closures, which can be neither copied nor pickled."""
        state = {name: value for name, value in self.__dict__.items() if name != "training_step"}
        state["_modules"] = {name: module for name, module in self._modules.items() if name != "spec_augmentation"}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.training_step = wrap_training_step(self.training_step)
        self.spec_augmentation = self.from_config_dict(self.cfg.spec_augment)

    @property
    def validation_contexts(self) -> tuple[AttentionContext, ...]:
        """The contexts that validation and test report, all trained ones unless set."""
        if self._validation_contexts is not None:
            return self._validation_contexts
        return self._conformer.trained_contexts()

    @validation_contexts.setter
    def validation_contexts(self, contexts: Sequence[Any] | None) -> None:
        if contexts is not None:
            contexts = AttentionContext.parse_all(contexts, name="validation_contexts")
            for context in contexts:
                self._conformer.check_context(context, name="validation_contexts")
        self._validation_contexts = contexts

    def inference_pass(
        self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0, mode: str = "val", apply_mask: bool = True
    ) -> dict[str, Any]:
        """Loss and accuracy of one batch under every validation context, all on the same masks.

        Returns:
            `{mode}_loss`, the mean over the contexts, and `{mode}_totals`, a `ContextTotals` to add up.
        """
        features = self._features(**self._signals(batch))
        contexts = self._evaluated_contexts()
        mask = self._evaluation_mask(features, batch_idx, dataloader_idx) if apply_mask else None
        totals, tokens = [], None
        for context in contexts:
            with self._conformer.evaluating_context(context) if context is not None else nullcontext():
                encoded, encoded_len, masks = self._encode(features, apply_mask, context, mask)
                log_probs = self.decoder(encoder_output=encoded)
            tokens = self._tokens(features, encoded_len) if tokens is None else tokens
            totals.append(
                self.loss.statistics(
                    masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len
                )
            )
        totals = ContextTotals.gather(contexts, totals)
        return {f"{mode}_loss": totals.mean_loss, f"{mode}_totals": totals}

    def _evaluated_contexts(self) -> tuple[AttentionContext | None, ...]:
        return self.validation_contexts if self._conformer is not None else (None,)

    def _evaluation_mask(self, features: SpeechFeatures, batch_idx: int, dataloader_idx: int) -> Tensor:
        """The mask [B, T] of an evaluation batch: the same in every epoch, run and context, on every device.

        It is sampled as `causal_window: sliding` does, opened for the smallest left context that is trained, so that
        no context has a blind target. Training's random state is not touched.
        """
        lengths, max_time = features.noisy_lengths, features.noisy.shape[-1]
        if self.pre_encoder is not None:
            with torch.no_grad():
                frames, lengths = self.pre_encoder.pre_encode(x=features.noisy.transpose(1, 2), lengths=lengths)
            max_time = frames.shape[1]
        lefts = [context.left for context in self._conformer.trained_contexts() if context.left > 0]
        identity = f"{self.context_sampler.seed}:{dataloader_idx}:{self.global_rank}:{batch_idx}"
        seed = int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=7).digest(), "big")
        mask = self.mask_processor.draw_causal(
            lengths.cpu(),
            max_time,
            effective_left_context=min(lefts, default=-1),
            causal_window="sliding",
            generator=torch.Generator().manual_seed(seed),
        ).mask
        return mask.to(features.noisy.device)

    def val_dataloader(self) -> Any:
        """The dataloaders of validation: their noise is that of every epoch, and not taken from training's."""
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
        self._validation_totals = {}

    def on_train_end(self) -> None:
        """Prints the last validation's figures, by dataloader and context."""
        super().on_train_end()
        for dataloader_idx, totals in self._validation_totals.items():
            several = len(self._validation_totals) > 1
            name = f" ({self.get_validation_dataloader_prefix(dataloader_idx).rstrip('_')})" if several else ""
            logging.info(f"Validation by attention context{name}:\n{totals.table()}")

    def _epoch_end(self, outputs: list[dict[str, Any]], mode: str, dataloader_idx: int) -> dict[str, Any]:
        totals = ContextTotals.sum([output[f"{mode}_totals"] for output in outputs]).reduced_over_ranks()
        if not totals.has_targets:
            logging.warning(f"Epoch {self.current_epoch} had nothing to evaluate, so {mode}_loss is not logged.")
            return {}
        if mode == "val":
            self._validation_totals[dataloader_idx] = totals
        logs = totals.metrics(mode)
        return {f"{mode}_loss": logs[f"{mode}_loss"], "log": logs}


class EncDecDenoiseMaskedTokenPredModel(EncDecMaskedTokenPredModel, NemoEncDecDenoiseMaskedTokenPredModel):
    """NEST: masked token prediction whose encoder hears noisy speech, and whose targets come from the clean speech.

    Adds to NeMo's class what `EncDecMaskedTokenPredModel` adds. (Huang et al., "NEST: Self-supervised Fast Conformer
    as All-purpose Seasoning to Speech Processing Tasks", 2024, https://arxiv.org/abs/2408.13106.)
    """

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """The forward's arguments, under NeMo's typed names and under its argument names."""
        return _with_forward_names(NemoEncDecDenoiseMaskedTokenPredModel.input_types.fget(self))

    def forward(
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
            input_signal: clean audio [B, N], samples in [-1, 1] at the preprocessor's rate.
            input_signal_length: [B], in samples.
            processed_signal: features [B, D, T] of the clean audio instead.
            processed_signal_length: [B], in feature frames.
            noise_signal, noise_signal_length, processed_noise_signal, processed_noise_signal_length: not used; taken
                because NeMo's data sets have them. `processed_noise_length` is NeMo's typed name for the last.
            noisy_input_signal: noisy audio [B, N]; without it the encoder hears the clean audio.
            noisy_input_signal_length: [B], in samples.
            processed_noisy_input_signal: features [B, D, T] of the noisy audio instead; NeMo's typed name for them is
                `processed_noisy_signal`.
            processed_noisy_input_signal_length: [B], in feature frames.
            apply_mask: hides blocks of the features from the encoder, as in training.

        Returns:
            As `EncDecMaskedTokenPredModel.forward`.

        Raises:
            ValueError: as `EncDecMaskedTokenPredModel.forward`, also for the noisy pair; or the same features under
                both of their names.
        """
        given = dict(
            input_signal=input_signal,
            input_signal_length=input_signal_length,
            processed_signal=processed_signal,
            processed_signal_length=processed_signal_length,
            noisy_input_signal=noisy_input_signal,
            noisy_input_signal_length=noisy_input_signal_length,
            processed_noisy_signal=_either(
                processed_noisy_signal=processed_noisy_signal,
                processed_noisy_input_signal=processed_noisy_input_signal,
            ),
            processed_noisy_signal_length=_either(
                processed_noisy_signal_length=processed_noisy_signal_length,
                processed_noisy_input_signal_length=processed_noisy_input_signal_length,
            ),
        )
        return self._typed_forward(apply_mask=apply_mask, **_given(given))

    def _features(self, **signals: Tensor) -> SpeechFeatures:
        clean, clean_lengths = self._processed(signals, "input_signal", "processed_signal")
        if not any("noisy" in name for name in signals):
            return SpeechFeatures(clean, clean_lengths, clean, clean_lengths)
        noisy, noisy_lengths = self._processed(signals, "noisy_input_signal", "processed_noisy_signal")
        return SpeechFeatures(clean, clean_lengths, noisy, noisy_lengths)

    def _setup_dataloader_from_config(self, config: DictConfig) -> DataLoader:
        """As NeMo's, but Lhotse's data take the options of noise and of unreadable audio too."""
        if not config.get("use_lhotse"):
            return super()._setup_dataloader_from_config(config)
        inject_dataloader_value_from_model_config(self.cfg, config, key="sample_rate")
        return get_lhotse_dataloader_from_config(
            config_for_lhotse(config),
            global_rank=self.global_rank,
            world_size=self.world_size,
            dataset=LhotseAudioNoiseDataset.from_config(config),
        )

    def _signals(self, batch: Any) -> dict[str, Tensor]:
        return {
            "input_signal": batch.audio,
            "input_signal_length": batch.audio_len,
            "noisy_input_signal": batch.noisy_audio,
            "noisy_input_signal_length": batch.noisy_audio_len,
        }


def _prepare_mask_position(cfg: DictConfig) -> dict[str, Any]:
    """Checks `mask_position` and changes `cfg` so that NeMo's constructor builds it rightly.

    Returns what the config says of the keys that this or NeMo's constructor changes, by key.
    """
    position = cfg.get("mask_position", "pre_conv")
    if position not in ("pre_conv", "post_conv"):
        raise ValueError(f"model.mask_position is {position!r}, but must be 'pre_conv' or 'post_conv'")
    if position == "pre_conv":
        return {}
    factor = cfg.encoder.get("subsampling_factor", 4)
    with open_dict(cfg):
        _undo_saved_division(cfg, factor)
        if cfg.masking.get("block_size", 48) < factor:
            raise ValueError(
                f"masking.block_size is {cfg.masking.block_size} feature frames, but with mask_position: post_conv it "
                f"must be at least encoder.subsampling_factor = {factor}"
            )
        cfg.masking.setdefault("block_size", 48)
        as_written = {key: OmegaConf.select(cfg, key) for key in _POST_CONV_KEYS}
        cfg.quantizer.combine_time_steps = 1
    return {key: value for key, value in as_written.items() if value is not None}


def _undo_saved_division(cfg: DictConfig, factor: int) -> None:
    """Repairs the config of a file that NeMo saved with the block size of encoder frames in it.

    NeMo's constructor divides `masking.block_size` in the config that it saves, so that every restore divides again
    (40, 5, 0).
    """
    saved_by_nemo = (
        "nemo_version" in cfg
        and cfg.loss.get("combine_time_steps", 1) == 1
        and cfg.quantizer.feat_in == cfg.encoder.d_model != cfg.preprocessor.get("features", 64)
    )
    if not saved_by_nemo:
        return
    divided = cfg.masking.block_size
    cfg.masking.block_size = max(divided, 5) * factor if divided == 0 else divided * factor
    cfg.quantizer.feat_in = cfg.masking.feat_in = cfg.preprocessor.get("features", 64)
    cfg.loss.combine_time_steps = factor
    logging.warning(
        f"The file's masking.block_size is {divided}, already divided by encoder.subsampling_factor = {factor} when "
        f"it was saved; it is taken as {cfg.masking.block_size} feature frames"
        + (", the recipe's default, since nothing is left of the original." if divided == 0 else ".")
    )


def _with_forward_names(types: dict[str, NeuralType]) -> dict[str, NeuralType]:
    """NeMo's input types, with those names of the forward that NeMo left out."""
    names = dict(types)
    if "processed_noisy_signal" in names:
        spectrogram, lengths = NeuralType(("B", "D", "T"), SpectrogramType(), optional=True), _LENGTHS
        names["processed_noisy_input_signal"], names["processed_noisy_input_signal_length"] = spectrogram, lengths
        names["processed_noise_signal_length"] = lengths
    return names


_LENGTHS = NeuralType(tuple("B"), LengthsType(), optional=True)


def _given(arguments: dict[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: value for name, value in arguments.items() if value is not None}


def _either(**names: Tensor | None) -> Tensor | None:
    """The value that was given under one of two names."""
    given = _given(names)
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are two names of one argument, but both were given")
    return next(iter(given.values()), None)


def _append(outputs: list, metrics: dict[str, Any], dataloader_idx: int) -> None:
    """Adds to NeMo's list of outputs, which holds a list for each dataloader where there are several."""
    (outputs[dataloader_idx] if outputs and isinstance(outputs[0], list) else outputs).append(metrics)
