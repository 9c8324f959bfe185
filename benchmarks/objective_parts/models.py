"""The models of the arms. Those of a seed begin with the same encoder, whatever else they have."""

from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scripts_path import CONFIGS

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules.ssl_modules.target_fitting import ChannelStatistics, fit_targets, sampled_vectors
from nemo.collections.asr.parts.preprocessing.fixed_statistics import normalize_by
from objective_parts.arms import CONTEXTS, FIXED, Arm, Size
from objective_parts.speech import Speech, features_of

MASKS = {"masking.mask_prob": 0.02, "masking.block_size": 16}
FITTED_TOKENS = 60_000


def build_model(arm: Arm, size: Size, seed: int, fitted: Path | None = None) -> EncDecDenoiseMaskedTokenPredModel:
    """The arm's model before pretraining.

    Args:
        seed: of the encoder's and the heads' weights, and of the contexts. The tokenizer is the same for all seeds.
        fitted: what `fit` wrote, for arms that need it.
    """
    changes = _changes(arm, size, seed)
    if arm.fitted:
        changes["fitted_targets"] = str(fitted)
    if arm.features == FIXED:
        changes["preprocessor.normalize"] = {"fixed_from": str(fitted)}
    torch.manual_seed(0)
    quantizer = _built(changes).quantizer.state_dict()
    torch.manual_seed(seed + 1)
    encoder = _built(_changes(Arm("encoder", ""), size, seed)).encoder.state_dict()
    torch.manual_seed(seed + 1)
    model = _built(changes)
    model.quantizer.load_state_dict(quantizer)
    model.encoder.load_state_dict(encoder)
    return model


def _changes(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    return {
        "objective": None,
        "encoder.att_context_size": [list(context) for context in CONTEXTS],
        "encoder.att_context_probs": None,
        "context_seed": seed,
        "num_classes": size.num_classes,
        "num_books": arm.books,
        **{f"encoder.{key}": value for key, value in size.encoder.items()},
        **MASKS,
        **arm.config,
    }


def _built(changes: dict[str, Any]) -> EncDecDenoiseMaskedTokenPredModel:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("nest_streaming_demo").model
    OmegaConf.set_struct(config, False)
    config.update(train_ds=None, validation_ds=None)
    for key, value in changes.items():
        OmegaConf.update(config, key, value, force_add=True)
    return EncDecDenoiseMaskedTokenPredModel(config)


def fit(arm: Arm, size: Size, speech: Speech, out: Path) -> Path | None:
    """The file that the arm's model needs of the training speech, made once; None where it needs none."""
    if not arm.fitted and arm.features != FIXED:
        return None
    books = arm.books if arm.fitted else 0
    file = out / f"fitted-{books}-{arm.features.replace(' ', '_')}.pt"
    with FileLock(f"{file}.lock"):
        if not file.is_file():
            _fit(arm, size, speech).save(file)
    return file


def _fit(arm: Arm, size: Size, speech: Speech) -> Any:
    model = build_model(Arm("fit", "", arm.books), size, seed=0).eval()
    batches = [
        (features[None], torch.tensor([features.shape[1]]))
        for features in features_of(speech.train, model.preprocessor)
    ]
    statistics = ChannelStatistics()
    for features, lengths in batches:
        statistics.add(features, lengths)
    mean_and_std = statistics.result()
    vectors = None
    if arm.fitted:
        if arm.features == FIXED:
            batches = [(normalize_by(mean_and_std, features), lengths) for features, lengths in batches]
        vectors = sampled_vectors(model.quantizer, batches, FITTED_TOKENS)
    return fit_targets(model.quantizer, mean_and_std, vectors, fixed_features=arm.features == FIXED)
