"""The section `model.objective`: which part each term has in which batch."""

import pytest
from omegaconf import OmegaConf

from nemo.collections.asr.models.masked_token_pred.objective import COMBINATIONS, Objective, Shares


def test_without_a_section_it_is_masked_prediction_alone():
    objective = Objective.of(None)
    assert objective == Objective.of(OmegaConf.create({})) == Objective.of({"masked": 1, "future": 0})
    assert objective.masks and not objective.predicts_future
    assert objective.shares() == Shares(1.0, 0.0)


@pytest.mark.parametrize("combination", ["one_forward", "two_forwards"])
def test_only_the_ratio_of_the_weights_counts(combination):
    objective = Objective(masked=2, future=6, combination=combination)
    assert objective.shares() == objective.shares_of_batch(0.9) == Shares(0.25, 0.75)


def test_what_leaves_nothing_to_predict_is_masked_prediction_if_that_has_a_weight():
    assert Objective(masked=1, future=3).shares(future_left=False) == Shares(1.0, 0.0)
    assert Objective(masked=0, future=3).shares(future_left=False) == Shares(0.0, 0.0)
    assert Objective(masked=0, future=3).shares_of_batch(0.3, future_left=False) == Shares(0.0, 0.0)
    by_batch = Objective(masked=1, future=3, combination="by_batch")
    assert by_batch.shares_of_batch(0.99, future_left=False) == Shares(1.0, 0.0)


def test_by_batch_the_sample_chooses_one_term_with_the_weights_as_probabilities():
    objective = Objective(masked=1, future=3, combination="by_batch")
    chosen = [objective.shares_of_batch(count / 1000) for count in range(1000)]
    assert set(chosen) == {Shares(1.0, 0.0), Shares(0.0, 1.0)}
    assert sum(shares.masked for shares in chosen) == 250


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({"masked": -1}, ValueError, "model.objective.masked must be a number >= 0; got -1"),
        ({"future": -0.5}, ValueError, "model.objective.future must be a number >= 0; got -0.5"),
        ({"future": float("nan")}, ValueError, "model.objective.future must be a number >= 0; got nan"),
        ({"masked": 0}, ValueError, "model.objective.masked and model.objective.future must be.*above 0; got 0"),
        ({"masked": 0, "future": 0}, ValueError, "one of them above 0; got 0 for both"),
        ({"future": "much"}, TypeError, "model.objective.future must be a number >= 0; got 'much'"),
        ({"steps": 0}, ValueError, "model.objective.steps must be a whole number >= 1; got 0"),
        ({"steps": -2}, ValueError, "model.objective.steps must be a whole number >= 1; got -2"),
        ({"steps": 1.5}, TypeError, "model.objective.steps must be a whole number >= 1; got 1.5"),
        ({"combination": "both"}, ValueError, f"model.objective.combination must be one of '{COMBINATIONS[0]}'"),
        ({"futur": 1}, ValueError, "a key of model.objective must be one of 'masked', 'future'.*got 'futur'"),
        ("future", TypeError, "model.objective must be a section of keys and values; got 'future'"),
    ],
)
def test_bad_entries_are_named(section, error, message):
    with pytest.raises(error, match=message):
        Objective.of(section)
