"""What pictures and tables of contexts are computed from."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from nemo.collections.asr.models.masked_token_pred.objective import Objective
from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS, AttentionContext
from nemo.collections.asr.parts.attention_context.reach import EncoderReach, subsampled_lengths
from nest_tools.masks import MaskSettings
from nest_tools.recipe.training_config import masks_after_convolutions, parts_of_config


@dataclass(frozen=True)
class Recipe:
    """The parts of a model that decide what contexts see and what masks hide."""

    preprocessor: AudioToMelSpectrogramPreprocessor
    """In evaluation mode, so that features can be reproduced."""
    encoder: ConformerEncoder
    """Asked for its contexts alone; it need not have the model's width."""
    reach: EncoderReach
    masking: MaskSettings | None
    """None for a model without masking, or whose objective masks nothing."""
    presets: dict[str, Any] = field(default_factory=lambda: dict(CONTEXT_PRESETS))

    @classmethod
    def of_model(cls, model: nn.Module) -> "Recipe":
        """Reads a model, which stays as it is.

        Raises:
            TypeError: the model has no Conformer encoder, or no preprocessor that makes mel spectrograms.
            ValueError: a subsampling for which it is not known what an encoder frame sees.
        """
        encoder, preprocessor = getattr(model, "encoder", None), getattr(model, "preprocessor", None)
        for module, kind in ((encoder, ConformerEncoder), (preprocessor, AudioToMelSpectrogramPreprocessor)):
            if not isinstance(module, kind):
                raise TypeError(
                    f"model must have a {kind.__name__}; got a {type(model).__name__} with a {type(module).__name__}"
                )
        masking = getattr(model, "mask_processor", None)
        return cls._of(copy.deepcopy(preprocessor), encoder, masking, getattr(model, "cfg", DictConfig({})))

    @classmethod
    def of_config(cls, file: Path) -> "Recipe":
        """Reads a training config without building its model.

        Raises:
            FileNotFoundError, ValueError: as `parts_of_config`.
        """
        parts = parts_of_config(file)
        return cls._of(parts.preprocessor, parts.encoder, parts.masking, parts.cfg)

    @classmethod
    def _of(
        cls,
        preprocessor: AudioToMelSpectrogramPreprocessor,
        encoder: ConformerEncoder,
        masking: nn.Module | None,
        cfg: DictConfig,
    ) -> "Recipe":
        settings = None
        if isinstance(masking, RandomBlockMasking) and Objective.of(cfg.get("objective")).masks:
            settings = MaskSettings.of(
                masking,
                frames_per_encoder_frame=1 if masks_after_convolutions(cfg) else encoder.subsampling_factor,
                threshold=OmegaConf.select(cfg, "loss.mask_threshold", default=0.8),
            )
        return cls(
            preprocessor=preprocessor.eval(),
            encoder=encoder,
            reach=EncoderReach.of(encoder, preprocessor),
            masking=settings,
            presets={**CONTEXT_PRESETS, **(cfg.get("context_presets") or {})},
        )

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that the model takes."""
        return self.preprocessor.featurizer.sample_rate

    def features(self, samples: np.ndarray) -> Tensor:
        """The log-mel features [D, T] of samples [N]."""
        device = self.preprocessor.featurizer.fb.device
        with torch.inference_mode():
            features, lengths = self.preprocessor(
                input_signal=torch.from_numpy(samples)[None].to(device),
                length=torch.tensor([len(samples)], device=device),
            )
        return features[0, :, : lengths[0]].float().cpu()

    def feature_frames(self, samples: int) -> int:
        """How many feature frames so many samples have."""
        return int(self.preprocessor.featurizer.get_seq_len(torch.tensor(samples)))

    def mask_lengths(self, lengths: Sequence[int]) -> Tensor:
        """Lengths in frames of the mask, int64 [B], of utterances that have so many feature frames."""
        feature_frames = torch.tensor(lengths, dtype=torch.int64)
        if self.masking is None or self.masking.frames_per_encoder_frame > 1:
            return feature_frames
        return subsampled_lengths(self.encoder.pre_encode, feature_frames)

    def context(self, value: Any) -> AttentionContext:
        """A context from a preset's name or its numbers.

        Raises:
            TypeError, ValueError: it is none, or this encoder cannot take it.
        """
        return self.encoder.context.check(AttentionContext.parse(value, presets=self.presets))

    def trained_contexts(self) -> tuple[AttentionContext, ...]:
        """The contexts that the config trains, in its order."""
        return self.encoder.context.trained

    def contexts(self) -> list[AttentionContext]:
        """The trained contexts and those of the presets that this encoder can take, from short to long."""
        refused = self.refused_presets()
        contexts = {*self.trained_contexts(), *(self.context(name) for name in self.presets if name not in refused)}
        return sorted(contexts, key=lambda context: [size if size >= 0 else math.inf for size in context.as_list()])

    def refused_presets(self) -> dict[str, str]:
        """The presets that this encoder cannot take, and why."""
        reasons = {}
        for name in self.presets:
            try:
                self.context(name)
            except (TypeError, ValueError) as error:
                reasons[name] = str(error)
        return reasons

    def preset_names(self, context: AttentionContext) -> list[str]:
        """The presets that stand for this context."""
        return [name for name, sizes in self.presets.items() if AttentionContext.parse(sizes) == context]
