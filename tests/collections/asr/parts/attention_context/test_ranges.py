"""Ranges of contexts: what they stand for, and what is refused by which key."""

import pytest
from omegaconf import OmegaConf

from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.attention_context.ranges import ContextRange

GOOD = {"left": [80, 320], "step": 80, "right": [0], "validate": [[80, 0], [320, 0]]}
NAME = "encoder.att_context_size[0]"


def parse(style: str = "regular", **changes) -> ContextRange:
    value = {key: entry for key, entry in {**GOOD, **changes}.items() if entry is not None}
    return ContextRange.parse(OmegaConf.create(value), style, NAME)


def test_a_range_is_every_left_context_with_every_right_context():
    contexts = parse(left=[8, 24], step=8, right=[0, 3], validate=[[16, 3]]).contexts
    assert [context.as_list() for context in contexts] == [[8, 0], [8, 3], [16, 0], [16, 3], [24, 0], [24, 3]]


def test_left_out_keys_are_steps_of_one_and_no_right_context():
    found = parse(step=None, right=None, left=[80, 83], validate=[[82, 0]])
    assert [context.as_list() for context in found.contexts] == [[80, 0], [81, 0], [82, 0], [83, 0]]
    assert found.validated == (AttentionContext(82, 0),)


def test_a_range_may_be_a_single_left_context_and_its_end_need_not_be_met():
    assert len(parse(left=[80, 80], validate=[[80, 0]]).contexts) == 1
    assert [context.left for context in parse(left=[80, 250], validate=[[240, 0]]).contexts] == [80, 160, 240]


def test_chunks_are_right_contexts_of_the_chunked_style():
    found = parse("chunked_limited", left=[56, 112], step=56, right=None, chunk=[7, 14], validate=[[56, 13]])
    assert {context.right for context in found.contexts} == {6, 13}


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"left": [320, 80]}, ValueError, r"\[0\]\.left must be \[first, last\] with first <= last; got \[320, 80\]"),
        ({"left": [80]}, ValueError, r"\[0\]\.left must be two whole numbers .*; got \[80\]"),
        ({"left": None}, TypeError, r"\[0\]\.left must be two whole numbers .*; got None"),
        ({"left": [-1, 80]}, ValueError, r"\[0\]\.left must be a whole number >= 0; got -1"),
        ({"left": [80.0, 160]}, TypeError, r"\[0\]\.left must be a whole number >= 0; got 80\.0"),
        ({"step": 0}, ValueError, r"\[0\]\.step must be a whole number >= 1; got 0"),
        ({"step": True}, TypeError, r"\[0\]\.step must be a whole number >= 1; got True"),
        ({"right": []}, ValueError, r"\[0\]\.right must be a list of at least one whole number >= 0; got \[\]"),
        ({"right": 0}, TypeError, r"\[0\]\.right must be a list"),
        ({"right": [-1]}, ValueError, r"\[0\]\.right must be a whole number >= 0; got -1"),
        ({"validate": None}, ValueError, r"\[0\]\.validate must be at least one context of the range.*; got None"),
        ({"validate": []}, ValueError, r"\[0\]\.validate must be at least one context of the range.*; got \[\]"),
        ({"validate": [[100, 0]]}, ValueError, r"\[0\]\.validate must be .*; got \[100, 0\]"),
        ({"validate": [[80, 1]]}, ValueError, r"\[0\]\.validate must be .*; got \[80, 1\]"),
        ({"chunk": [7], "right": None}, ValueError, r"\[0\]\.chunk must be left out under .*'regular'"),
        ({"lefts": [1, 2]}, ValueError, r"\[0\] must have the keys .*; got 'lefts'\. Did you mean 'left'\?"),
    ],
)
def test_a_wrong_range_is_refused_by_its_key(changes, error, message):
    with pytest.raises(error, match=message):
        parse(**changes)


def test_a_style_that_cannot_take_the_range_refuses_it():
    with pytest.raises(ValueError, match=r"\[0\] must be \[left, chunk, right\] under .*chunked_limited_with_rc"):
        parse("chunked_limited_with_rc")
    with pytest.raises(ValueError, match=r"\[0\] must have a left context that is a multiple of right \+ 1 = 7"):
        parse("chunked_limited", right=[6], validate=[[80, 6]])
    with pytest.raises(ValueError, match=r"\[0\]\.chunk must be left out where .*right is given"):
        parse("chunked_limited", chunk=[8])
