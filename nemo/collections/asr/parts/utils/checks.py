"""Checks of arguments. Every message has one form: `NAME must be WHAT IS ALLOWED; got VALUE`."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

__all__ = ["check_choice", "check_number", "check_whole_number"]


def check_whole_number(
    name: str, value: Any, minimum: int | None = None, maximum: int | None = None, allowed: str | None = None
) -> int:
    """Returns `value` as an int.

    Args:
        name: what the user calls the value: an argument, or a key of a config.
        value: an int or another `numbers.Integral` (NumPy's whole numbers are).
        minimum: the smallest number allowed; None for no bound.
        maximum: the largest number allowed; None for no bound.
        allowed: what the message says is allowed; None to say it from the bounds.

    Raises:
        TypeError: `value` is a bool, a float or anything else that is no whole number.
        ValueError: `value` is out of bounds.
    """
    if not _is_whole(value):
        allowed = allowed or f"a whole number{_bounds(minimum, maximum)}"
        raise TypeError(f"{name} must be {allowed}; got {value!r} of type {type(value).__name__}")
    number = int(value)
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise ValueError(f"{name} must be {allowed or f'a whole number{_bounds(minimum, maximum)}'}; got {number}")
    return number


def check_number(
    name: str, value: Any, minimum: float | None = None, maximum: float | None = None, allowed: str | None = None
) -> float:
    """Returns `value` as a float, if it is a finite number within the bounds; arguments as `check_whole_number`.

    Raises:
        TypeError: `value` is a bool or no number.
        ValueError: `value` is out of bounds, infinite or NaN.
    """
    allowed = allowed or f"a number{_bounds(minimum, maximum)}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {allowed}; got {value!r} of type {type(value).__name__}")
    number = float(value)
    outside = (minimum is not None and number < minimum) or (maximum is not None and number > maximum)
    if outside or not math.isfinite(number):
        raise ValueError(f"{name} must be {allowed}; got {value!r}")
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Returns `value` if it is one of `choices`.

    Raises:
        ValueError: it is not.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum} to {maximum}"
    if minimum is not None:
        return f" >= {minimum}"
    return f" <= {maximum}" if maximum is not None else ""
