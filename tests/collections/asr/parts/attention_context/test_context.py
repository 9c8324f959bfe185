"""Reading, checking and drawing attention contexts."""

import pytest
from omegaconf import OmegaConf

from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS, AttentionContext


@pytest.mark.parametrize(
    ("name", "pair"),
    [("very_low", [80, 0]), ("low", [160, 0]), ("medium", [240, 0]), ("high", [320, 0]), ("unlimited", [-1, 0])],
)
def test_presets_mean_what_the_interface_promises(name, pair):
    assert AttentionContext.parse(name).as_list() == pair


@pytest.mark.parametrize("value", [[70, 6], (70, 6), OmegaConf.create([70, 6]), AttentionContext(70, 6)])
def test_every_form_of_a_pair_is_read(value):
    assert AttentionContext.parse(value) == AttentionContext(left=70, right=6)


def test_three_numbers_are_left_chunk_right():
    assert AttentionContext.parse([70, 2, 3]) == AttentionContext(left=70, chunk=2, right=3)
    assert AttentionContext.parse([70, 2, 3]).as_list() == [70, 2, 3]


def test_a_models_presets_add_and_override():
    presets = {"low": [40, 0], "meeting": [400, 0]}
    assert AttentionContext.parse("low", presets).left == 40
    assert AttentionContext.parse("meeting", presets).left == 400
    assert AttentionContext.parse("high", presets).left == 320
    assert CONTEXT_PRESETS["low"] == (160, 0)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="'unlimited'; got 'hihg'. Did you mean 'high'"):
        AttentionContext.parse("hihg")


@pytest.mark.parametrize("value", [None, 160, 1.5, {"left": 1}, b"low", [160.0, 0], [True, 0], ["160", 0], [None, 0]])
def test_what_is_no_pair_of_whole_numbers_is_a_type_error(value):
    with pytest.raises(TypeError, match="context must be .*whole numbers"):
        AttentionContext.parse(value)


@pytest.mark.parametrize("value", [[160], [1, 2, 3, 4], [-2, 0], [160, -5]])
def test_wrong_numbers_are_a_value_error(value):
    with pytest.raises(ValueError, match="context must be"):
        AttentionContext.parse(value)


def test_an_empty_sequence_is_refused():
    with pytest.raises(ValueError, match="context must be"):
        AttentionContext.parse([])
    with pytest.raises(ValueError, match="encoder.att_context_size must be .*empty"):
        AttentionContext.parse_all([], name="encoder.att_context_size")


def test_a_bad_entry_of_a_list_is_named_by_its_place():
    with pytest.raises(TypeError, match=r"encoder.att_context_size\[1\]"):
        AttentionContext.parse_all([[80, 0], [1.5, 0]], name="encoder.att_context_size")


def test_chunked_contexts_must_hold_whole_chunks():
    AttentionContext(70, 13).check_style("chunked_limited")
    AttentionContext(-1, 13).check_style("chunked_limited")
    AttentionContext(71, -1).check_style("chunked_limited")
    with pytest.raises(ValueError, match=r"multiple of right \+ 1 = 7.*such as 70; got \[71, 6\]"):
        AttentionContext(71, 6).check_style("chunked_limited")
    with pytest.raises(ValueError, match="such as 14"):  # 0 would leave nothing to mask
        AttentionContext(5, 13).check_style("chunked_limited")


def test_styles_take_their_own_count_of_numbers():
    with pytest.raises(ValueError, match="must be two numbers"):
        AttentionContext.parse([70, 2, 3]).check_style("regular")
    with pytest.raises(ValueError, match="chunked_limited_with_rc"):
        AttentionContext.parse([70, 2]).check_style("chunked_limited_with_rc")


@pytest.mark.parametrize(("value", "allowed"), [([70, 2, 3], True), ([-1, -1, -1], True), ([0, 1, 0], True)])
def test_chunks_with_right_context_take_a_left_bound_or_no_limit_at_all(value, allowed):
    AttentionContext.parse(value).check_style("chunked_limited_with_rc")


@pytest.mark.parametrize("value", [[-1, 2, 3], [-1, -1, 0], [70, 0, 3], [70, 2, -1]])
def test_chunks_with_right_context_refuse_half_a_limit(value):
    with pytest.raises(ValueError, match=r"\[-1, -1, -1\] for no limit"):
        AttentionContext.parse(value).check_style("chunked_limited_with_rc")


@pytest.mark.parametrize("pair", [[-1, 0], [8, -1], [0, 0]])
def test_local_attention_takes_two_finite_sides(pair):
    with pytest.raises(ValueError, match="local attention"):
        AttentionContext.parse(pair).check_local_attention()
