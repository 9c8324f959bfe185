"""The options that decide what is in a corpus, checked."""

import numbers
from dataclasses import dataclass
from math import isfinite
from typing import Any

SAMPLE_RATE = 16000
MIN_UTTERANCE_SECONDS = 5.0  # the longest sentence at the slowest rate takes 4.1 s, and a pause lies at both ends


@dataclass(frozen=True)
class Options:
    """The options of `make_corpus` that decide what is in the files; its docstring explains them.

    Raises:
        TypeError, ValueError: naming the option, what is allowed and what was given.
    """

    minutes: float
    validation_minutes: float
    seed: int
    min_seconds: float
    max_seconds: float

    def __post_init__(self) -> None:
        for name in ("minutes", "validation_minutes", "min_seconds", "max_seconds"):
            object.__setattr__(self, name, _positive(name, getattr(self, name)))
        object.__setattr__(self, "seed", _seed(self.seed))
        if self.min_seconds < MIN_UTTERANCE_SECONDS:
            raise ValueError(
                f"min_seconds must be at least {MIN_UTTERANCE_SECONDS}, so that every sentence fits;"
                f" got {self.min_seconds!r}"
            )
        if self.max_seconds < self.min_seconds:
            raise ValueError(
                f"max_seconds must be at least min_seconds = {self.min_seconds!r}; got {self.max_seconds!r}"
            )


# The library's own checks cannot be used here: to import them takes a quarter of a minute, and no corpus needs NeMo.


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a finite number > 0; got {value!r} of type {type(value).__name__}")
    number = float(value)
    if not (isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a finite number > 0; got {value!r}")
    return number


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"seed must be a whole number >= 0; got {value!r} of type {type(value).__name__}")
    if value < 0:
        raise ValueError(f"seed must be a whole number >= 0; got {value!r}")
    return int(value)
