"""A training of the ablation that is killed goes on as if nothing had been."""

import json

import pytest
import torch
from ablation_parts import training
from ablation_parts.arms import BASE_ARM, SIZES, arm_named
from ablation_runs import CONTEXTS
from trainings import results

pytest.importorskip("espeakng_loader", reason="the ablation's speech is synthesised by espeakng-loader")

pytestmark = pytest.mark.slow

TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict:
    """The result of one tiny training of the base arm, and the folder that it used."""
    out = tmp_path_factory.mktemp("unbroken")
    training.train(BASE_ARM, 0, TINY, out, torch.device("cpu"))
    result = json.loads((results.run_folder(out, "sliding", 0) / "result.json").read_text())
    return {"out": out, "result": result}


class Killed(Exception):
    """In place of a signal."""


def test_a_training_that_was_killed_goes_on_and_gives_the_same_result(unbroken, tmp_path, monkeypatch):
    (tmp_path / "corpus").symlink_to(unbroken["out"] / "corpus")
    evaluate, left = training.evaluate, [3]

    def third_is_never_reached(*arguments):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return evaluate(*arguments)

    monkeypatch.setattr(training, "evaluate", third_is_never_reached)
    with pytest.raises(Killed):
        training.train(BASE_ARM, 0, TINY, tmp_path, torch.device("cpu"))
    assert not results.results_of(tmp_path, ["sliding"], 1)
    training.train(BASE_ARM, 0, TINY, tmp_path, torch.device("cpu"))
    assert left == [-2]  # the other two of four
    assert results.results_of(tmp_path, ["sliding"], 1) == {"sliding": {0: unbroken["result"]}}


def test_all_arms_are_evaluated_on_the_same_tokens_and_masks(unbroken, tmp_path):
    (tmp_path / "corpus").symlink_to(unbroken["out"] / "corpus")
    training.train(arm_named("literal"), 1, TINY, tmp_path, torch.device("cpu"))
    other = results.results_of(tmp_path, ["literal"], 2)["literal"][1]["history"][-1]
    ours = unbroken["result"]["history"][-1]
    assert other["tokens"] == ours["tokens"]
    assert all(other[context]["targets"] == ours[context]["targets"] > 200 for context in CONTEXTS)
