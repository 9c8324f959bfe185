"""The arms of the evaluation of objectives."""

import pytest
from objective_parts.arms import ALL_LABELS, ARMS, arm_named
from objective_parts.tables import PAIRS
from omegaconf import OmegaConf

from nemo.collections.asr.models.masked_token_pred.objective import Objective

NAMES = [arm.name for arm in ARMS]


def test_names_are_unique_and_those_that_are_compared_exist():
    assert len(set(NAMES)) == len(NAMES)
    assert {arm.compared_with for arm in ARMS} | {name for pair in PAIRS for name in pair} <= set(NAMES)


def test_what_the_defaults_depend_on_is_fine_tuned_on_every_amount_of_labels():
    assert all(arm_named(name).label_minutes == ALL_LABELS for name in ("none", "masked", "future"))


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_objective_is_one_that_the_model_takes(arm):
    objective = Objective.of(OmegaConf.create(arm.config).get("objective"))
    assert objective.predicts_future == (arm.name.startswith(("future", "both")))
    assert objective.masks == (not arm.name.startswith("future"))
