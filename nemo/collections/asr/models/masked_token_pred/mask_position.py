"""Masking before or after the convolutions (`model.mask_position`), and the config that goes with it."""

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo.collections.asr.parts.utils.checks import check_choice
from nemo.utils import logging

__all__ = ["prepare_config", "restore_config"]

_CHANGED_KEYS = (
    "quantizer.feat_in",
    "quantizer.combine_time_steps",
    "masking.feat_in",
    "masking.block_size",
    "loss.combine_time_steps",
)
"""What masking after the convolutions changes in a config while the model is built."""


def prepare_config(cfg: DictConfig) -> dict[str, Any]:
    """Changes `cfg` so that NeMo's constructor builds the model rightly.

    Returns:
        What the config says of the keys that this or NeMo's constructor changes, for `restore_config`.

    Raises:
        ValueError: an unknown `mask_position`, or blocks shorter than an encoder frame.
    """
    position = cfg.get("mask_position", "pre_conv")
    check_choice("model.mask_position", position, ("pre_conv", "post_conv"))
    if position == "pre_conv":
        return {}
    factor = cfg.encoder.get("subsampling_factor", 4)
    with open_dict(cfg):
        _undo_saved_division(cfg, factor)
        if cfg.masking.get("block_size", 48) < factor:
            raise ValueError(
                f"masking.block_size must be at least encoder.subsampling_factor = {factor} feature frames with "
                f"mask_position: post_conv; got {cfg.masking.block_size}"
            )
        cfg.masking.setdefault("block_size", 48)
        as_written = {key: OmegaConf.select(cfg, key) for key in _CHANGED_KEYS}
        cfg.quantizer.combine_time_steps = 1
    return {key: value for key, value in as_written.items() if value is not None}


def restore_config(cfg: DictConfig, as_written: dict[str, Any]) -> None:
    """Puts back what `prepare_config` returned, so that a saved model has the config as it was written."""
    with open_dict(cfg):
        for key, value in as_written.items():
            OmegaConf.update(cfg, key, value)


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
        f"The file's masking.block_size is {divided}. It was divided by encoder.subsampling_factor = {factor} when "
        f"the file was saved, and is taken as {cfg.masking.block_size} feature frames"
        + (", the recipe's default, since nothing is left of the original." if divided == 0 else ".")
    )
