"""The modules of a training config that say what contexts see and how masks are sampled."""

from pathlib import Path
from typing import NamedTuple

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking

SECTIONS = ("preprocessor", "encoder", "masking", "mask_position", "loss", "objective", "context_presets")
NARROW = {"n_heads": 1, "d_model": 4, "feat_out": -1, "ff_expansion_factor": 1, "subsampling_conv_channels": 1}
"""An encoder of this size sees the same frames as a large one, and is built at once."""


class ConfigParts(NamedTuple):
    """What a training config describes; the encoder is a narrow one."""

    cfg: DictConfig
    """The sections of the config that were read."""
    preprocessor: AudioToMelSpectrogramPreprocessor
    encoder: ConformerEncoder
    masking: RandomBlockMasking | None


def parts_of_config(file: Path) -> ConfigParts:
    """Builds what a report needs of a training config (YAML, with Hydra's `defaults` if any), but no model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no training config of a model with a Conformer encoder, or one that its modules refuse.
    """
    cfg = read_config(file)
    for section, kind in (("preprocessor", AudioToMelSpectrogramPreprocessor), ("encoder", ConformerEncoder)):
        _check_target(file, cfg, section, kind)
    try:
        encoder = ConformerEncoder.from_config_dict(OmegaConf.merge(cfg.encoder, NARROW))
        preprocessor = AudioToMelSpectrogramPreprocessor.from_config_dict(cfg.preprocessor)
        masking = _masking_of(cfg, encoder.subsampling_factor)
    except HydraException as error:
        raise ValueError(f"{file}: {error.__cause__ or error}") from error
    return ConfigParts(cfg, preprocessor, encoder, masking)


def read_config(file: Path) -> DictConfig:
    """The sections of a training config that a report needs, with Hydra's defaults and all references resolved.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it cannot be read.
    """
    if not file.is_file():
        raise FileNotFoundError(f"--config must be a training config (.yaml); got {file}, which does not exist")
    if file.suffix != ".yaml":
        raise ValueError(f"--config must be a training config (.yaml); got {file}")
    try:
        with initialize_config_dir(config_dir=str(file.resolve().parent), version_base=None):
            cfg = compose(config_name=file.stem)
        sections = {key: OmegaConf.select(cfg, f"model.{key}") for key in SECTIONS}
        for key, section in sections.items():
            if OmegaConf.is_config(section):
                sections[key] = OmegaConf.to_container(section, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(
            f"--config must be a training config (.yaml); got {file}, which cannot be read: {error}"
        ) from error
    return OmegaConf.create(sections)


def masks_after_convolutions(cfg: DictConfig) -> bool:
    """Whether a model config masks what leaves the subsampling, and not the features."""
    return cfg.get("mask_position") == "post_conv"


def _check_target(file: Path, cfg: DictConfig, section: str, kind: type) -> None:
    target = OmegaConf.select(cfg, f"{section}._target_")
    try:
        fits = target is not None and issubclass(get_class(target), kind)
    except (ImportError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"model.{section}._target_ must be a {kind.__name__}; got {target} in {file}")


def _masking_of(cfg: DictConfig, factor: int) -> RandomBlockMasking | None:
    """The mask processor of a config, in the units in which a model would use it."""
    if cfg.masking is None:
        return None
    masking = RandomBlockMasking.from_config_dict(cfg.masking)
    after_convolutions = masks_after_convolutions(cfg)
    if after_convolutions:
        masking.block_size = masking.block_size // factor
    if "subsampling_factor" not in cfg.masking:
        masking.subsampling_factor = 1 if after_convolutions else factor
    return masking
