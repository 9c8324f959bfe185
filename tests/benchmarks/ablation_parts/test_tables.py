"""The tables of the ablation say what was measured."""

from ablation_parts.arms import SIZES
from ablation_parts.tables import tables
from ablation_runs import run

TINY = SIZES["tiny"]


def test_a_recipe_is_compared_at_targets_that_all_of_its_arms_have_been_evaluated_with():
    found = {name: {seed: run(2.0, 100) for seed in range(2)} for name in ("sliding", "tail")}
    found |= {name: {seed: run(2.0, 1000) for seed in range(2)} for name in ("sliding, denser", "tail, denser")}
    text = tables(found, TINY)
    titles = [part.split("**", 1)[0] for part in text.split("\n**")[1:] if "as many targets" in part]
    assert len(titles) == 2
    assert not [line for line in text.splitlines() if line.startswith("| ") and "denser | 2 | -" in line]


def test_arms_on_tokens_of_their_own_can_be_reported_alone():
    assert "| not normalised | 1 |" in tables({"not normalised": {0: run(0.1, 100)}}, TINY)


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
