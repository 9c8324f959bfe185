"""The small models that are trained: those of the demo's config, with changes."""

from collections.abc import Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scripts_path import CONFIGS

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

MASKED_PREDICTION = {"objective": None, "num_books": 1}
"""What makes the demo's model one of masked prediction alone, with one codebook."""


def demo_model(changes: Mapping[str, Any]) -> EncDecDenoiseMaskedTokenPredModel:
    """The model of `nest_streaming_demo.yaml` without data; `changes` are dotted keys of its section `model`."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("nest_streaming_demo").model
    OmegaConf.set_struct(config, False)
    config.update(train_ds=None, validation_ds=None)
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    return EncDecDenoiseMaskedTokenPredModel(config)
