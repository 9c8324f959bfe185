"""One arm with one seed, from pretraining to its result."""

import pytest
import torch
from objective_parts.arms import SIZES, arm_named
from objective_parts.run import run_arm
from phone_corpus import write_phone_corpus
from trainings.results import is_finished, results_of, run_folder

PEAKS = ("0.001", "0.0003", "0.003")

pytestmark = pytest.mark.slow


def test_a_run_keeps_each_part_that_is_finished(tmp_path, capsys):
    corpus, out = write_phone_corpus(tmp_path / "corpus"), tmp_path / "out"
    arguments = (arm_named("future"), 0, SIZES["tiny"], corpus, out, torch.device("cpu"))
    run_arm(*arguments)
    first = results_of(out, ["future"], 1)["future"][0]
    parts = {"fine_tuned_5", "fine_tuned_20", "fine_tuned_60"} | {f"fine_tuned_at_{peak}" for peak in PEAKS}
    assert set(first) == {"pretraining", "probe", *parts}
    assert first["pretraining"]["steps"] == 4 and "future 0: step 4 of 4" in capsys.readouterr().out
    folder = run_folder(out, "future", 0)
    (folder / "result.json").unlink()
    (folder / "fine_tuned_5.json").unlink()
    assert not is_finished(out, "future", 0)
    run_arm(*arguments)
    assert results_of(out, ["future"], 1)["future"][0] == first
    printed = capsys.readouterr().out
    assert "fine_tuned_5" in printed and "step" not in printed and "fine_tuned_20" not in printed
