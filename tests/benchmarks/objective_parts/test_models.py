"""The models of the arms."""

import pytest
import torch
from objective_parts.arms import SIZES, arm_named
from objective_parts.models import build_model, fit
from objective_parts.speech import read_speech
from phone_corpus import write_phone_corpus
from trainings.data import features_of

TINY = SIZES["tiny"]


def equal(ours, theirs) -> bool:
    ours, theirs = ours.state_dict(), theirs.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return read_speech(write_phone_corpus(tmp_path_factory.mktemp("corpus")))


def test_the_arms_of_a_seed_begin_with_the_same_encoder_and_all_seeds_have_the_same_tokens():
    masked, future = (build_model(arm_named(name), TINY, seed=1) for name in ("masked", "future"))
    other = build_model(arm_named("future"), TINY, seed=2)
    assert equal(masked.encoder, future.encoder) and not equal(future.encoder, other.encoder)
    assert equal(future.quantizer, other.quantizer) and not equal(future.future_heads, other.future_heads)
    assert (masked.quantizer.num_books, future.quantizer.num_books) == (1, 4)


def test_targets_and_statistics_are_fitted_once(speech, tmp_path):
    arm = arm_named("future, 1 fitted book")
    file = fit(arm, TINY, speech, tmp_path)
    written = file.stat().st_mtime_ns
    assert fit(arm, TINY, speech, tmp_path) == file and file.stat().st_mtime_ns == written
    fitted, random = build_model(arm, TINY, 1, file), build_model(arm_named("future, 1 book"), TINY, 1)
    assert not equal(fitted.quantizer, random.quantizer) and equal(fitted.encoder, random.encoder)
    assert fit(arm_named("future"), TINY, speech, tmp_path) is None


def test_fixed_statistics_are_those_of_the_training_speech(speech, tmp_path):
    arm = arm_named("none, fixed")
    model = build_model(arm, TINY, 0, fit(arm, TINY, speech, tmp_path)).eval()
    whole = torch.cat(features_of((one.audio for one in speech.train), model.preprocessor), dim=1)
    assert whole.mean(1).abs().max() < 1e-3 and (whole.std(1) - 1).abs().max() < 1e-3
