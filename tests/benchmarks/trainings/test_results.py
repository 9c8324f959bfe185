"""What trainings leave."""

import pytest
from ablation_parts.arms import ARMS, SIZES
from ablation_parts.tables import tables
from ablation_runs import run
from trainings import results

TINY = SIZES["tiny"]


def test_tables_can_be_made_again_of_the_figures(tmp_path):
    found = {"sliding": {seed: run(2.0 + seed, 100) for seed in range(3)}, "tail": {1: run(2.5, 50)}}
    results.write_results(found, tmp_path / "ablation.jsonl", size="tiny")
    read = results.read_results(tmp_path / "ablation.jsonl")
    assert (
        results.common_value(read, "size") == "tiny"
        and list(read) == ["sliding", "tail"]
        and list(read["sliding"]) == [0, 1, 2]
    )
    assert tables(read, TINY) == tables(found, TINY)


def test_lines_that_differ_in_what_is_common_are_refused():
    found = {"tail": {0: {"size": "tiny"}, 1: {"size": "large"}}}
    with pytest.raises(ValueError, match=r"size must be the same in all lines; got \['large', 'tiny'\]"):
        results.common_value(found, "size")


def test_results_are_those_of_finished_trainings(tmp_path):
    results.write_result(tmp_path, "sliding, denser", 1, {"steps": 3})
    results.run_folder(tmp_path, "tail", 0).mkdir(parents=True)
    assert results.is_finished(tmp_path, "sliding, denser", 1) and not results.is_finished(tmp_path, "tail", 0)
    assert results.results_of(tmp_path, ["sliding, denser", "tail"], 2) == {"sliding, denser": {1: {"steps": 3}}}


def test_every_arm_has_a_folder_of_its_own(tmp_path):
    folders = {results.run_folder(tmp_path, arm.name, seed) for arm in ARMS for seed in range(3)}
    assert len(folders) == 3 * len(ARMS)
