"""Warnings that are logged once for each model."""

from typing import Any

from nemo.utils import logging

__all__ = ["warn_once"]


def warn_once(owner: Any, key: str, message: str) -> None:
    """Logs the warning `message`, unless a warning with this `key` was logged for `owner` before.

    Args:
        owner: the object that keeps the keys, usually a model or one of its modules.
        key: names the warning.
        message: the text.
    """
    given = owner.__dict__.setdefault("_given_warnings", set())
    if key not in given:
        given.add(key)
        logging.warning(message)
