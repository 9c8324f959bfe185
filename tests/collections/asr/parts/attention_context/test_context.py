"""Reading, checking and drawing attention contexts."""

from collections import Counter

import pytest
from omegaconf import OmegaConf

from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS, AttentionContext, ContextSampler


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
    with pytest.raises(ValueError, match="'hihg'.*did you mean 'high'.*'unlimited'"):
        AttentionContext.parse("hihg")


@pytest.mark.parametrize("value", [None, 160, 1.5, {"left": 1}, b"low", [160.0, 0], [True, 0], ["160", 0], [None, 0]])
def test_what_is_no_pair_of_whole_numbers_is_a_type_error(value):
    with pytest.raises(TypeError, match="context is .*whole numbers"):
        AttentionContext.parse(value)


@pytest.mark.parametrize("value", [[160], [1, 2, 3, 4], [-2, 0], [160, -5]])
def test_wrong_numbers_are_a_value_error(value):
    with pytest.raises(ValueError, match="context is"):
        AttentionContext.parse(value)


def test_an_empty_sequence_is_refused():
    with pytest.raises(ValueError, match="context is"):
        AttentionContext.parse([])
    with pytest.raises(ValueError, match="encoder.att_context_size is empty"):
        AttentionContext.parse_all([], name="encoder.att_context_size")


def test_a_bad_entry_of_a_list_is_named_by_its_place():
    with pytest.raises(TypeError, match=r"encoder.att_context_size\[1\]"):
        AttentionContext.parse_all([[80, 0], [1.5, 0]], name="encoder.att_context_size")


def test_chunked_contexts_must_hold_whole_chunks():
    AttentionContext(70, 13).check_style("chunked_limited")
    AttentionContext(-1, 13).check_style("chunked_limited")
    AttentionContext(71, -1).check_style("chunked_limited")
    with pytest.raises(ValueError, match=r"\[71, 6\].*multiple of right \+ 1 = 7, such as 70"):
        AttentionContext(71, 6).check_style("chunked_limited")
    with pytest.raises(ValueError, match="such as 14"):  # 0 would leave nothing to mask
        AttentionContext(5, 13).check_style("chunked_limited")


def test_styles_take_their_own_count_of_numbers():
    with pytest.raises(ValueError, match="takes two numbers"):
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


def test_draws_depend_on_seed_and_count_alone():
    contexts = [[80, 0], [160, 0], [-1, 0]]
    drawn = [ContextSampler(contexts, seed=3).at(count) for count in range(50)]
    sampler = ContextSampler(contexts, seed=3)
    assert [sampler.next() for _ in range(50)] == drawn
    assert [ContextSampler(contexts, seed=4).at(count) for count in range(50)] != drawn
    assert sampler.at(7) == drawn[7] and sampler.count == 50


def test_a_sampler_goes_on_from_its_state():
    sampler = ContextSampler([[80, 0], [-1, 0]], seed=1)
    ahead = [sampler.next() for _ in range(20)]
    resumed = ContextSampler([[80, 0], [-1, 0]])
    resumed.load_state_dict({"seed": 1, "count": 12})
    assert [resumed.next() for _ in range(8)] == ahead[12:]


def test_draws_follow_the_probabilities():
    """20,000 draws: each share within 4.5 standard deviations, a false alarm in about 1 of 30,000 seeds."""
    probabilities, draws = [0.5, 0.3, 0.2], 20_000
    sampler = ContextSampler([[1, 0], [2, 0], [3, 0]], probabilities)
    counts = Counter(sampler.at(count).left for count in range(draws))
    for left, probability in zip([1, 2, 3], probabilities, strict=True):
        deviation = (probability * (1 - probability) * draws) ** 0.5
        assert abs(counts[left] - probability * draws) < 4.5 * deviation


@pytest.mark.parametrize("probabilities", [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
def test_a_context_of_probability_zero_is_never_drawn(probabilities):
    sampler = ContextSampler([[1, 0], [2, 0], [3, 0]], probabilities)
    never = probabilities.index(0) + 1
    assert all(sampler.at(count).left != never for count in range(5000))


def test_probabilities_that_round_to_one_are_normalised():
    sampler = ContextSampler([[left, 0] for left in range(1, 11)], [0.1] * 10)
    assert abs(sum(sampler.probabilities) - 1) < 1e-12
    assert ContextSampler([[1, 0], [2, 0]], [0.3333335, 0.6666669]).probabilities[0] < 0.3333335


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5], "1 entries.*2 contexts"),
        ([0.5, 0.6], "sums to 1.1"),
        ([1.5, -0.5], "every entry must be a number >= 0"),
        ([float("nan"), 1.0], "every entry must be a number >= 0"),
    ],
)
def test_bad_probabilities_are_refused_with_their_figures(probabilities, message):
    with pytest.raises(ValueError, match=f"encoder.att_context_probs.*{message}"):
        ContextSampler([[1, 0], [2, 0]], probabilities, name="encoder.att_context_probs")


def test_no_contexts_and_a_bad_seed_are_refused():
    with pytest.raises(ValueError, match="contexts is empty"):
        ContextSampler([])
    with pytest.raises(TypeError, match="seed is 1.5"):
        ContextSampler([[1, 0]], seed=1.5)
