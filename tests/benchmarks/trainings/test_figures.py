"""The figures of tables, compared seed by seed."""

from trainings import figures


def test_a_difference_is_taken_seed_by_seed_and_bold_where_it_is_real():
    base = {0: 3.0, 1: 4.0, 2: 5.0}
    assert figures.difference({0: 3.10, 1: 4.11, 2: 5.09}, base, 2) == "**+0.10**"
    assert figures.difference({0: 3.3, 1: 3.9, 2: 5.1}, base, 2) == "+0.10"
    assert figures.difference({2: 5.5, 7: 1.0}, base, 2) == "+0.50"
    assert figures.difference({7: 1.0}, base, 2) == "-"


def test_a_spread_has_a_deviation_where_there_are_two_values():
    assert figures.spread([0.5], 1, 100) == "50.0" and figures.spread([1.0, 3.0], 2) == "2.00 ± 1.41"
