"""What a context report reads of a model or a training config: which frames reach which, and how masks are drawn."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.modules.ssl_modules import block_masks
from nemo.collections.asr.modules.ssl_modules.mask_audit import blind_frames
from nemo.collections.asr.modules.ssl_modules.masking import CausalSample, RandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.target_alignment import subsampling_right_edge
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS, AttentionContext
from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling, calc_length

# ---------------------------------------------------------------------------------------------------------- geometry


class Span(NamedTuple):
    """Frames from `first` to `last`, both included; infinite where there is no limit."""

    first: float
    last: float


@dataclass(frozen=True)
class EncoderGeometry:
    """Which frames reach which, in an encoder that has seen no end of speech before and after."""

    layers: int
    style: str
    """`att_context_style`."""
    conv_left: int
    """Encoder frames that a layer's convolution sees before its own."""
    conv_right: int
    factor: int
    """Feature frames in an encoder frame: encoder frame k stands for those from `k * factor` on."""
    first_feature: int
    """Encoder frame k is computed from the feature frames `k * factor + first_feature ...`"""
    last_feature: int
    """`... k * factor + last_feature`."""
    hop: float
    """Seconds from one feature frame to the next."""
    window: float
    """Seconds of audio in a feature frame."""

    @classmethod
    def of(cls, encoder: ConformerEncoder, preprocessor: AudioToMelSpectrogramPreprocessor) -> "EncoderGeometry":
        """Reads it off the modules.

        Raises:
            ValueError: a subsampling for which it is not known what an encoder frame sees.
        """
        featurizer, pre_encode = preprocessor.featurizer, subsampling(encoder)
        conv_left, conv_right = encoder.conv_context_size
        return cls(
            layers=len(encoder.layers),
            style=encoder.att_context_style,
            conv_left=conv_left,
            conv_right=conv_right,
            factor=encoder.subsampling_factor,
            first_feature=subsampling_left_edge(pre_encode),
            last_feature=subsampling_right_edge(pre_encode),
            hop=featurizer.hop_length / featurizer.sample_rate,
            window=featurizer.win_length / featurizer.sample_rate,
        )

    @property
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""
        return self.factor * self.hop

    def layer_span(self, frame: float, context: AttentionContext) -> Span:
        """The encoder frames that one attention layer sees from `frame`."""
        if math.isinf(frame):
            return Span(frame, frame)
        chunk = chunk_frames(context, self.style)
        if chunk is None:
            return Span(
                _or(-math.inf, context.left, frame - context.left), _or(math.inf, context.right, frame + context.right)
            )
        begin = frame // chunk * chunk
        whole_chunks = context.left if context.chunk is not None else context.left // chunk * chunk
        ahead = context.right if context.chunk is not None else 0
        return Span(_or(-math.inf, context.left, begin - whole_chunks), begin + chunk - 1 + ahead)

    def stack_span(self, frame: float, context: AttentionContext) -> Span:
        """The encoder frames, as they leave the subsampling, that the encoder's output at `frame` is made from.

        In each layer the convolution comes after attention, so seen from the output it comes first.
        """
        first = last = frame
        for _ in range(self.layers):
            first = self.layer_span(first - self.conv_left, context).first
            last = self.layer_span(last + self.conv_right, context).last
        return Span(first, last)

    def reach(self, context: AttentionContext) -> Span:
        """How many encoder frames before and after its own an output is made from, at most over a chunk's frames."""
        spans = [(frame, self.stack_span(frame, context)) for frame in range(chunk_frames(context, self.style) or 1)]
        return Span(max(frame - span.first for frame, span in spans), max(span.last - frame for frame, span in spans))

    def latency(self, context: AttentionContext) -> float:
        """Seconds of audio that an output waits for, at most, after the centre of the newest feature frame that its
        own encoder frame sees: the look-ahead of the whole encoder, and half an analysis window (one hop at least).
        """
        return self.reach(context).last * self.frame_seconds + max(self.window / 2, self.hop)

    def feature_span(self, span: Span) -> Span:
        """The feature frames that the encoder frames of `span` are made from."""
        return Span(span.first * self.factor + self.first_feature, span.last * self.factor + self.last_feature)


def _or(unlimited: float, size: int, edge: float) -> float:
    """An edge of attention; `unlimited` where the context's size is -1."""
    return unlimited if size < 0 else edge


def chunk_frames(context: AttentionContext, style: str) -> int | None:
    """Encoder frames in a chunk; None where positions are not grouped into chunks."""
    if style == "chunked_limited" and context.right >= 0:
        return context.right + 1
    if context.chunk is not None and context.chunk > 0:
        return context.chunk
    return None


def subsampling(encoder: ConformerEncoder) -> nn.Module:
    """The encoder's subsampling, also where masking stands around it."""
    return getattr(encoder.pre_encode, "pre_encode", encoder.pre_encode)


def subsampling_left_edge(pre_encode: nn.Module) -> int:
    """The first feature frame that encoder frame 0 sees, if there is one; at most 0."""
    edge = 0
    if isinstance(pre_encode, ConvSubsampling):
        for _ in range(pre_encode._sampling_num):
            edge = pre_encode._stride * edge - pre_encode._left_padding
    return edge


# ------------------------------------------------------------------------------------------------------------ masking


@dataclass(frozen=True)
class WayOfMasking:
    """One answer to the question which blocks may be hidden where a layer sees `left` encoder frames."""

    name: str
    meaning: str
    causal_window: str | None
    """As in `RandomBlockMasking`; None for masking that is not causal."""
    in_feature_frames: bool = False
    """Takes `left` for a number of feature frames."""


WAYS = (
    WayOfMasking("none", "NeMo's masks: blocks anywhere, whatever attention sees", None),
    WayOfMasking(
        "literal", "blocks in the last `left` feature frames: the number is taken over, its unit is not", "tail", True
    ),
    WayOfMasking("tail", "blocks in the last `left` encoder frames", "tail"),
    WayOfMasking("random", "blocks in `left` encoder frames that are drawn anew for each utterance", "random"),
    WayOfMasking("sliding", "NeMo's masks, opened where a target would be blind", "sliding"),
)


@dataclass(frozen=True)
class MaskSettings:
    """What a model says of masking, from which masks of every way can be drawn."""

    mask_prob: float
    block_size: int
    """In frames of the mask: feature frames, or encoder frames where masking comes after the convolutions."""
    allow_overlap: bool
    max_mask_ratio: float
    frames_per_encoder_frame: int
    """Frames of the mask in an encoder frame: 1 where masking comes after the convolutions."""
    target_threshold: float
    own_way: str
    """The name of the way in which the model itself masks."""

    @classmethod
    def of(cls, masking: RandomBlockMasking, frames_per_encoder_frame: int, threshold: float) -> "MaskSettings":
        """Reads them off a mask processor."""
        own_way = masking.causal_window if masking.causal else "none"
        if own_way == "tail" and masking.subsampling_factor < frames_per_encoder_frame:
            own_way = "literal"
        return cls(
            mask_prob=masking.mask_prob,
            block_size=masking.block_size,
            allow_overlap=masking.allow_overlap,
            max_mask_ratio=masking.max_mask_ratio,
            frames_per_encoder_frame=frames_per_encoder_frame,
            target_threshold=threshold,
            own_way=own_way,
        )

    def draw(self, way: WayOfMasking, lengths: Tensor, left: int, generator: torch.Generator) -> CausalSample:
        """Draws masks [B, T] for utterances of `lengths` [B], in frames of the mask, as training would."""
        processor = RandomBlockMasking(
            feat_in=1,
            mask_prob=self.mask_prob,
            block_size=self.block_size,
            allow_overlap=self.allow_overlap,
            max_mask_ratio=self.max_mask_ratio,
            left_context_size=left,
            subsampling_factor=1 if way.in_feature_frames else self.frames_per_encoder_frame,
            causal_window=way.causal_window or "tail",
        )
        longest = int(lengths.max())
        if way.causal_window is None:
            mask = processor.sample(lengths, longest, generator=generator)
            return CausalSample(mask, block_masks.whole_utterance(lengths), None)
        return processor.sample_causal(lengths, longest, generator=generator)

    def blind(self, mask: Tensor, lengths: Tensor, left: int) -> Tensor:
        """Which encoder frames `audit_masks` counts as blind targets, bool [B, G]."""
        return blind_frames(mask, lengths, left, self.frames_per_encoder_frame)


# ------------------------------------------------------------------------------------------------------------- recipe


@dataclass(frozen=True)
class Recipe:
    """Of a model, what pictures and table are made from."""

    preprocessor: AudioToMelSpectrogramPreprocessor
    """In evaluation mode, so that features can be reproduced."""
    encoder: ConformerEncoder
    """Asked for its contexts alone; it need not have the model's width."""
    geometry: EncoderGeometry
    masking: MaskSettings | None
    """None for a model without masking."""
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
                    f"the model is a {type(model).__name__} with a {type(module).__name__} where a report needs a "
                    f"{kind.__name__}"
                )
        masking = getattr(model, "mask_processor", None)
        return cls._of(copy.deepcopy(preprocessor), encoder, masking, getattr(model, "cfg", DictConfig({})))

    @classmethod
    def of_config(cls, file: Path) -> "Recipe":
        """Reads a training config (YAML, with Hydra's `defaults` if any) without building its model.

        The encoder is built with one narrow head, which leaves the frames that it sees as they are.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no training config of a model with a Conformer encoder, or one that its modules refuse.
        """
        cfg = read_config(file)
        for section, kind in (("preprocessor", AudioToMelSpectrogramPreprocessor), ("encoder", ConformerEncoder)):
            _check_target(file, cfg, section, kind)
        narrow = {"n_heads": 1, "d_model": 4, "feat_out": -1, "ff_expansion_factor": 1, "subsampling_conv_channels": 1}
        try:
            encoder = ConformerEncoder.from_config_dict(OmegaConf.merge(cfg.encoder, narrow))
            preprocessor = AudioToMelSpectrogramPreprocessor.from_config_dict(cfg.preprocessor)
            masking = _masking_of(cfg, encoder.subsampling_factor)
        except HydraException as error:
            raise ValueError(f"{file}: {error.__cause__ or error}") from error
        return cls._of(preprocessor, encoder, masking, cfg)

    @classmethod
    def _of(
        cls,
        preprocessor: AudioToMelSpectrogramPreprocessor,
        encoder: ConformerEncoder,
        masking: nn.Module | None,
        cfg: DictConfig,
    ) -> "Recipe":
        settings = None
        if isinstance(masking, RandomBlockMasking):
            settings = MaskSettings.of(
                masking,
                frames_per_encoder_frame=1 if _masks_after_convolutions(cfg) else encoder.subsampling_factor,
                threshold=OmegaConf.select(cfg, "loss.mask_threshold", default=0.8),
            )
        return cls(
            preprocessor=preprocessor.eval(),
            encoder=encoder,
            geometry=EncoderGeometry.of(encoder, preprocessor),
            masking=settings,
            presets={**CONTEXT_PRESETS, **(cfg.get("context_presets") or {})},
        )

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that the model takes."""
        return self.preprocessor.featurizer.sample_rate

    def features(self, samples: np.ndarray) -> Tensor:
        """The log-mel features [D, T] of samples [N]."""
        with torch.inference_mode():
            features, lengths = self.preprocessor(
                input_signal=torch.from_numpy(samples)[None].to(self.preprocessor.featurizer.fb.device),
                length=torch.tensor([len(samples)], device=self.preprocessor.featurizer.fb.device),
            )
        return features[0, :, : lengths[0]].float().cpu()

    def feature_frames(self, samples: int) -> int:
        """How many feature frames so many samples have."""
        return int(self.preprocessor.featurizer.get_seq_len(torch.tensor(samples)))

    def mask_lengths(self, lengths: Sequence[int]) -> Tensor:
        """Lengths in frames of the mask, int64 [B], of utterances that have so many feature frames."""
        lengths = torch.tensor(lengths, dtype=torch.int64)
        if self.masking is None or self.masking.frames_per_encoder_frame > 1:
            return lengths
        pre_encode = subsampling(self.encoder)
        if not isinstance(pre_encode, ConvSubsampling):
            return -(-lengths // self.geometry.factor)
        paddings = pre_encode._left_padding + pre_encode._right_padding
        sizes = pre_encode._kernel_size, pre_encode._stride, pre_encode._ceil_mode, pre_encode._sampling_num
        return calc_length(lengths, paddings, *sizes).long()

    def context(self, value: Any) -> AttentionContext:
        """A context from a preset's name or its numbers.

        Raises:
            TypeError, ValueError: it is none, or this encoder cannot take it.
        """
        return self.encoder.context.check(AttentionContext.parse(value, presets=self.presets))

    def contexts(self) -> list[AttentionContext]:
        """The trained contexts and those of the presets that this encoder can take, from short to long."""
        taken = [self.context(name) for name in self.presets if name not in self.refused_presets()]
        contexts = {*self.encoder.context.trained, *taken}
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


def read_config(file: Path) -> DictConfig:
    """The sections of a training config that a report needs, with Hydra's defaults and all references resolved."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no config {file}")
    if file.suffix != ".yaml":
        raise ValueError(f"{file} is no training config: its name must end in .yaml")
    try:
        with initialize_config_dir(config_dir=str(file.resolve().parent), version_base=None):
            cfg = compose(config_name=file.stem)
        sections = {key: OmegaConf.select(cfg, f"model.{key}") for key in _SECTIONS}
        for key, section in sections.items():
            if OmegaConf.is_config(section):
                sections[key] = OmegaConf.to_container(section, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read as a training config: {error}") from error
    return OmegaConf.create(sections)


_SECTIONS = ("preprocessor", "encoder", "masking", "mask_position", "loss", "context_presets")


def _check_target(file: Path, cfg: DictConfig, section: str, kind: type) -> None:
    target = OmegaConf.select(cfg, f"{section}._target_")
    try:
        fits = target is not None and issubclass(get_class(target), kind)
    except (ImportError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"{file} has model.{section}._target_ {target}, but a report needs a {kind.__name__}")


def _masks_after_convolutions(cfg: DictConfig) -> bool:
    return cfg.get("mask_position") == "post_conv"


def _masking_of(cfg: DictConfig, factor: int) -> RandomBlockMasking | None:
    """The mask processor of a config, in the units in which a model would use it."""
    if cfg.masking is None:
        return None
    masking = RandomBlockMasking.from_config_dict(cfg.masking)
    after_convolutions = _masks_after_convolutions(cfg)
    if after_convolutions:
        masking.block_size = masking.block_size // factor
    if "subsampling_factor" not in cfg.masking:
        masking.subsampling_factor = 1 if after_convolutions else factor
    return masking
