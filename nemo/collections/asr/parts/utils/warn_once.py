"""Warnings that a model gives once in its life, not at every call."""

from typing import Any

from nemo.utils import logging

__all__ = ["warn_once"]


def warn_once(owner: Any, key: str, message: str) -> None:
    """Logs `message` unless `owner` has already given the warning `key`.

    Args:
        owner: the object that remembers, usually a model or one of its modules.
        key: what the warning is about; each key is logged once for each owner.
        message: the text.
    """
    given = owner.__dict__.setdefault("_given_warnings", set())
    if key not in given:
        given.add(key)
        logging.warning(message)
