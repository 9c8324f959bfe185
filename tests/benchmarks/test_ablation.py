"""The ablation: a training that is killed goes on as if nothing had been, and its tables say what was measured."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader", reason="the ablation's speech is synthesised by espeakng-loader")

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import scripts_path  # noqa: E402, F401
import torch  # noqa: E402
from ablation_parts import figures, results, training  # noqa: E402
from ablation_parts.arms import ARMS, BASE_ARM, SIZES, Arm, arm_named  # noqa: E402
from ablation_parts.arms import CONTEXTS as PAIRS  # noqa: E402
from ablation_parts.evaluation import build_model  # noqa: E402
from ablation_parts.tables import tables  # noqa: E402

CONTEXTS = [str(context) for context in PAIRS]
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


def test_arms_differ_from_the_one_they_are_compared_with_in_one_thing():
    for arm in ARMS:
        other = arm_named(arm.compared_with)
        assert other.compared_with == other.name
        changed = {
            key for key in arm.config.keys() | other.config.keys() if arm.config.get(key) != other.config.get(key)
        }
        # Literal sync is a tail whose context is counted in other units.
        assert len(changed - {"masking.subsampling_factor"}) == (0 if arm is other else 1), arm.name


def test_the_sparser_arm_has_as_many_targets_as_tail_and_random():
    from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks

    def targets(arm: Arm) -> float:
        masking = build_model(arm, TINY, 0).mask_processor
        lengths = torch.full((2000,), 1200)
        counts = []
        for left, _ in PAIRS:
            masking.left_context_size = left
            mask = masking.sample(lengths, 1200, generator=torch.Generator().manual_seed(0))
            counts.append(audit_masks(mask, lengths, left, 8).targets.double().mean())
        return float(sum(counts)) / len(counts)

    sparser = targets(arm_named("sliding, sparser"))
    for arm in ("tail", "random"):
        assert sparser == pytest.approx(targets(arm_named(arm)), rel=0.03)


def test_a_recipe_is_compared_at_targets_that_all_of_its_arms_have_been_evaluated_with():
    found = {name: {seed: run(2.0, 100) for seed in range(2)} for name in ("sliding", "tail")}
    found |= {name: {seed: run(2.0, 1000) for seed in range(2)} for name in ("sliding, denser", "tail, denser")}
    text = tables(found, TINY)
    titles = [part.split("**", 1)[0] for part in text.split("\n**")[1:] if "as many targets" in part]
    assert len(titles) == 2
    assert not [line for line in text.splitlines() if line.startswith("| ") and "denser | 2 | -" in line]


def test_arms_on_tokens_of_their_own_can_be_reported_alone():
    assert "| not normalised | 1 |" in tables({"not normalised": {0: run(0.1, 100)}}, TINY)


def run(loss: float, targets: float, probe: float = 0.5) -> dict:
    """What a training may leave: two evaluations, the second after twice the targets and with half the loss."""

    def evaluation(share: float, value: float) -> dict:
        figures = {"loss": value, "accuracy": 0.25, "targets": 100}
        tokens = {"entropy": 3.0, "most_frequent": 0.2}
        return {
            "step": 10 * share,
            "targets": share * targets,
            "tokens": tokens,
            **{context: figures for context in CONTEXTS},
        }

    found = {"all_layers": probe, "last_layer": probe / 2}
    return {
        "history": [evaluation(0.5, 2 * loss), evaluation(1, loss)],
        "steps": 10,
        "blind": {context: 0.5 for context in CONTEXTS},
        "probe": {**{context: found for context in CONTEXTS}, "log-mels": found, "most frequent phone": found},
        "untrained_probe": {context: found for context in CONTEXTS},
    }


def test_a_loss_at_so_many_targets_lies_between_two_evaluations():
    loss = figures.loss_at
    assert [loss(targets).of(run(1.0, 100), CONTEXTS[0]) for targets in (50, 75, 100)] == [2.0, 1.5, 1.0]
    assert [loss(targets).of(run(1.0, 100), CONTEXTS[0]) for targets in (49, 101)] == [None, None]
    assert loss(0).of(run(1.0, 0), CONTEXTS[0]) == 1.0  # no evaluation brought a target


def test_a_difference_is_taken_seed_by_seed_and_bold_where_it_is_real():
    base = {0: 3.0, 1: 4.0, 2: 5.0}
    assert figures.difference({0: 3.10, 1: 4.11, 2: 5.09}, base, 2) == "**+0.10**"
    assert figures.difference({0: 3.3, 1: 3.9, 2: 5.1}, base, 2) == "+0.10"
    assert figures.difference({2: 5.5, 7: 1.0}, base, 2) == "+0.50"
    assert figures.difference({7: 1.0}, base, 2) == "-"


def test_tables_hold_what_is_finished_and_no_loss_on_other_tokens():
    found = {
        "sliding": {seed: run(2.0 + seed, 100, probe=0.6) for seed in range(3)},
        "tail": {seed: run(2.5 + seed, 50) for seed in range(2)},
        "not normalised": {0: run(0.1, 100, probe=0.3)},
    }
    text = tables(found, TINY)
    sections = dict(part.split("**\n", 1) for part in text.split("\n**")[1:])
    loss = next(
        table for title, table in sections.items() if title.startswith("Validation loss (nats) after equal steps")
    )
    assert "| sliding | 3 | 3.000 ± 1.000 |" in loss
    assert "| tail | 2 | 3.000 ± 0.707 (**+0.500**) |" in loss
    assert "not normalised" not in loss
    same = next(table for title, table in sections.items() if "as many targets" in title)
    assert "| sliding | 3 | 6.000 ± 2.000 |" in same and "| tail | 2 | 3.000 ± 0.707 " in same
    assert any("as `tail` has in the end" in title and "`sliding` after 5 steps" in title for title in sections)
    probe = next(table for title, table in sections.items() if "all layers" in title)
    assert "| not normalised | 1 | 30.0 (-30.0) |" in probe and "| random weights | 3 | 60.0 ± 0.0 " in probe
    assert "sliding, sparser" not in text  # it has not been trained


def test_tables_can_be_made_again_of_the_figures(tmp_path):
    found = {"sliding": {seed: run(2.0 + seed, 100) for seed in range(3)}, "tail": {1: run(2.5, 50)}}
    results.write_results(found, "tiny", tmp_path)
    read, size = results.read_results(tmp_path / "ablation.jsonl")
    assert size == "tiny" and list(read) == ["sliding", "tail"] and list(read["sliding"]) == [0, 1, 2]
    assert tables(read, TINY) == tables(found, TINY)


def test_the_committed_tables_are_those_of_the_committed_figures_and_the_guide_quotes_them():
    found, size = results.read_results(REPOSITORY / "benchmarks/results/ablation.jsonl")
    assert size == "default" and set(found) == {arm.name for arm in ARMS}
    assert all(len(runs) >= 3 for runs in found.values())
    committed = (REPOSITORY / "benchmarks/results/ablation.md").read_text(encoding="utf-8")
    assert committed == tables(found, SIZES[size]) + "\n"
    guide = (REPOSITORY / "MASKING_CONTEXT_SYNC.md").read_text(encoding="utf-8")
    quoted = [line for line in guide.splitlines() if " ± " in line and line.startswith("|")]
    assert len(quoted) >= 5 and not set(quoted) - set(committed.splitlines())


def test_a_training_runs_in_a_process_of_its_own_that_waits_passively(tmp_path, monkeypatch):
    from ablation_parts.jobs import run_all

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    (tmp_path / "job.py").write_text(JOB)
    results.write_result(tmp_path, "tail", 0, {})  # finished already
    after = []
    run_all([tmp_path / "job.py"], [("tail", 0), ("shift +1", 1)], tmp_path, 2, lambda: after.append(1))
    log = (results.run_folder(tmp_path, "shift +1", 1) / "log").read_text()
    assert log == "shift +1 1 passive 0 1\n" and after == [1]
    with pytest.raises(RuntimeError, match="the training of literal, seed 7, failed; see .*literal-7/log"):
        run_all([tmp_path / "job.py"], [("literal", 7)], tmp_path, 1, lambda: None)


JOB = """
import os, sys
assert sys.argv[1] == "--train" and sys.argv[2] != "literal"
names = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"
print(*sys.argv[2:], *(os.environ[name] for name in names))
"""
