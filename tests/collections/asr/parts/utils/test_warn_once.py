"""Warnings that are logged once for each owner and key."""

import copy

import pytest

from nemo.collections.asr.parts.utils import warn_once as module
from nemo.collections.asr.parts.utils.warn_once import warn_once


class Owner:
    pass


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(module.logging, "warning", texts.append)
    return texts


def test_each_key_is_logged_once_for_each_owner(logged):
    one, other = Owner(), Owner()
    for text in ("first", "again"):
        warn_once(one, "a", text)
        warn_once(one, "b", text)
        warn_once(other, "a", text)
    assert logged == ["first"] * 3


def test_a_copy_knows_what_was_logged_before_it_was_made(logged):
    owner = Owner()
    warn_once(owner, "a", "first")
    warn_once(copy.deepcopy(owner), "a", "again")
    assert logged == ["first"]
