"""The models of the arms. Those of a seed begin with the same encoder, whatever else they have."""

from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from trainings.data import features_of
from trainings.models import MASKED_PREDICTION, demo_model

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules.ssl_modules.fitted_targets import FittedTargets
from nemo.collections.asr.modules.ssl_modules.target_fitting import fit_to_corpus
from objective_parts.arms import CONTEXTS, FIXED, Arm, Size
from objective_parts.speech import Speech

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
    quantizer = demo_model(changes).quantizer.state_dict()
    torch.manual_seed(seed + 1)
    encoder = demo_model(_changes(Arm("encoder", ""), size, seed)).encoder.state_dict()
    torch.manual_seed(seed + 1)
    model = demo_model(changes)
    model.quantizer.load_state_dict(quantizer)
    model.encoder.load_state_dict(encoder)
    return model


def _changes(arm: Arm, size: Size, seed: int) -> dict[str, Any]:
    return {
        **MASKED_PREDICTION,
        "encoder.att_context_size": [list(context) for context in CONTEXTS],
        "encoder.att_context_probs": None,
        "context_seed": seed,
        "num_classes": size.num_classes,
        "num_books": arm.books,
        **{f"encoder.{key}": value for key, value in size.encoder.items()},
        **MASKS,
        **arm.config,
    }


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


def _fit(arm: Arm, size: Size, speech: Speech) -> FittedTargets:
    model = build_model(Arm("fit", "", arm.books), size, seed=0).eval()
    features = features_of((utterance.audio for utterance in speech.train), model.preprocessor)
    batches = [(frames[None], torch.tensor([frames.shape[1]])) for frames in features]
    tokens = FITTED_TOKENS if arm.fitted else None
    return fit_to_corpus(model.quantizer, lambda: batches, tokens, fixed_features=arm.features == FIXED)
