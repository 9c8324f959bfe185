"""The tables of the evaluation."""

from objective_parts.arms import CONTEXTS, SIZES
from objective_parts.tables import pairs_table, tables

ALL = [str(context) for context in CONTEXTS]


def run(share: float, pretrained: bool = True) -> dict:
    """What one arm with one seed may leave."""
    by_context = dict.fromkeys(ALL, share)
    losses = {
        "val_token_entropy": 3.0,
        "val_token_entropy_given_1": 2.0,
        "val_token_entropy_given_2": 2.5,
        "val_future_loss_8_0": 1.75,
        "val_future_loss_80_0": 1.5,
    }
    return {
        "pretraining": {"steps": 4, "seconds": 2.0, **losses} if pretrained else {},
        "probe": {name: by_context for name in ("all_layers", "last_layer", "weighted_layers")},
        "fine_tuned_5": by_context,
        "fine_tuned_at_0.003": dict.fromkeys(ALL, share / 2),
        "fine_tuned_at_0.0003": by_context,
        **({} if pretrained else {"log_mels": {"penalties": {}, "16": 0.25, "32": 0.5, "most_frequent": 0.125}}),
    }


RESULTS = {
    "future": {seed: run(0.6 + 0.01 * seed) for seed in range(3)},
    "none": {seed: run(0.5 + (0.01, 0.012, 0.011)[seed] * seed, pretrained=False) for seed in range(3)},
}


def row(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_arms_stand_beside_log_mels_and_what_needs_no_hearing():
    text = tables(RESULTS, SIZES["tiny"])
    sections = text.split("**")
    assert row(sections[2], "future")[2:6] == ["3", "61.0 ± 1.0", "61.0 ± 1.0", "61.0 ± 1.0"]
    assert row(sections[2], "none")[6:] == ["51.1 ± 1.1", "-", "-"]
    (peaks,) = [part for part in sections if part.lstrip().startswith("| arm | 0.0003 | 0.003 |")]
    assert row(peaks, "future") == ["future", "60.0", "30.0"]
    assert "25.0 % from 16 frames, 50.0 % from 32 frames. Most frequent phone: 12.5 %." in text
    assert ["future", "3.000", "2.250", "-", "-", "1.750", "1.500"] in [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
    ]


def test_a_difference_is_taken_seed_by_seed_with_its_confidence_interval():
    cells = row(pairs_table(RESULTS), "future - none")
    # 10.0, 9.8 and 9.8 points; t(0.975, 2) = 4.303, standard deviation 0.1155.
    assert cells[1:3] == ["3", "**+9.9 ± 0.3**"]
    one = {arm: {0: runs[0]} for arm, runs in RESULTS.items()}
    assert row(pairs_table(one), "future - none")[1:3] == ["1", "+10.0"]


def test_an_interval_around_zero_is_not_bold():
    results = {"future": {0: run(0.5), 1: run(0.6)}, "none": {0: run(0.6), 1: run(0.5)}}
    assert row(pairs_table(results), "future - none")[2].startswith("+0.0 ±")
