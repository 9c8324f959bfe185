"""The tables of the training step."""

from training_step_parts.tables import comparison, division


def answer(seconds: float, size: float = 1e9) -> dict:
    return {"seconds": seconds, "cpu_seconds": 2 * seconds, "bytes": size, "loss": 3.0, "parameters": 14e6}


def test_sides_are_compared_step_by_step_with_nemos():
    answers = {"NeMo": [answer(2.0), answer(4.0)], "ours": [answer(1.0, 0.5e9), answer(1.0, 0.25e9)]}
    lines = comparison(answers).splitlines()
    assert lines[-2] == "| NeMo | 14.0M | 3.000 | 1.00 x | 6.000 | 1.00 x | 1.00 GB | 1.00 x | 3.000 |"
    # Ratios are of steps that ran side by side: the median of 2 and 4.
    assert lines[-1] == "| ours | 14.0M | 1.000 | 3.00 x | 2.000 | 3.00 x | 0.50 GB | 0.50 x | 3.000 |"


def test_without_nemos_side_nothing_is_compared():
    line = comparison({"ours": [answer(1.0)]}).splitlines()[-1]
    assert line == "| ours | 14.0M | 1.000 | - | 2.000 | - | 1.00 GB | - | 3.000 |"


def test_parts_are_shares_of_the_step_and_operators_of_their_sum_from_large_to_small():
    profile = {
        "parts": {"step": 200.0, "loss": 50.0, "layers": 100.0},
        "operators": {"aten::mm": 30.0, "aten::add": 10.0},
    }
    parts, operators = division({"ours": [{}, {"profile": profile}]}).split("\n\n")
    assert parts.splitlines()[-2:] == ["| layers | 50.0 % |", "| loss | 25.0 % |"]
    assert operators.splitlines()[-2:] == ["| aten::mm | 75.0 % |", "| aten::add | 25.0 % |"]
