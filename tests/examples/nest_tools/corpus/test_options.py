"""The options of the corpus: what is refused, by name and before anything is written."""

import math

import numpy as np
import pytest
from nest_tools.corpus import make_corpus
from nest_tools.corpus.options import Options


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("minutes", 0, ValueError),
        ("minutes", -1.0, ValueError),
        ("minutes", math.nan, ValueError),
        ("minutes", math.inf, ValueError),
        ("minutes", "10", TypeError),
        ("minutes", True, TypeError),
        ("validation_minutes", 0, ValueError),
        ("min_seconds", 1.0, ValueError),
        ("min_seconds", 30.0, ValueError),
        ("max_seconds", 11.0, ValueError),
        ("seed", -1, ValueError),
        ("seed", 0.5, TypeError),
        ("seed", False, TypeError),
    ],
)
def test_bad_options_are_refused_by_name_and_nothing_is_written(option, value, error, tmp_path):
    with pytest.raises(error, match=f"{option}.*{value}"):
        make_corpus(tmp_path / "corpus", **{option: value})
    assert not (tmp_path / "corpus").exists()


def test_options_of_other_number_types_are_the_same_options():
    assert Options(np.float32(1), 2, np.int64(3), 5, 6) == Options(1.0, 2.0, 3, 5.0, 6.0)
    assert type(Options(1, 2, np.int64(3), 5, 6).seed) is int
