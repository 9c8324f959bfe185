"""Contexts of a config: plain lists as NeMo has them, and ranges beside them."""

import pytest
from omegaconf import OmegaConf

from nemo.collections.asr.parts.attention_context.config import ConfiguredContexts
from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.attention_context.sampling import ContextSampler

SAMPLES = [-1, -1, -1, 80, 320, 160, -1, 80, 80, 80, 320, 80, 80, 320, 160, -1, 160, 320, 80, 320]

RANGE = {"left": [80, 320], "step": 80, "right": [0], "validate": [[160, 0], [320, 0]]}


def read(sizes, probabilities=None, style="regular", model="rel_pos") -> ConfiguredContexts:
    value = OmegaConf.create({"sizes": sizes}).sizes
    return ConfiguredContexts.read(value, probabilities, style, model)


def test_a_plain_list_is_trained_and_validated_as_it_stands():
    contexts = read([[80, 0], [-1, 0], [80, 0]], [0.25, 0.5, 0.25])
    assert contexts.trained == contexts.validated == tuple(map(AttentionContext.parse, ([80, 0], [-1, 0], [80, 0])))
    assert contexts.probabilities == (0.25, 0.5, 0.25)
    assert read([80, 0]).trained == (AttentionContext(80, 0),)
    assert read(None).trained == (AttentionContext(-1, -1),)


def test_a_range_shares_the_probability_of_its_entry_evenly():
    contexts = read([RANGE, [-1, 0]], [0.8, 0.2])
    assert [context.left for context in contexts.trained] == [80, 160, 240, 320, -1]
    assert contexts.probabilities == pytest.approx((0.2, 0.2, 0.2, 0.2, 0.2))


def test_validation_evaluates_the_stated_points_and_the_plain_contexts_once():
    contexts = read([RANGE, [-1, 0], [160, 0]])
    assert [context.label for context in contexts.validated] == ["160_0", "320_0", "-1_0"]


def test_a_range_may_stand_alone():
    assert len(read(RANGE).trained) == len(read([RANGE]).trained) == 4


def test_a_sampler_of_a_range_chooses_all_of_it_evenly():
    contexts = read([RANGE, [-1, 0]], [0.8, 0.2])
    sampler = ContextSampler(contexts.trained, contexts.probabilities, seed=3)
    lefts = [sampler.next().left for _ in range(5000)]
    for left in (80, 160, 240, 320, -1):
        assert lefts.count(left) / 5000 == pytest.approx(0.2, abs=0.02)


def test_samples_of_a_plain_list_are_those_of_the_list():
    """As before there were ranges: the first 20 of seed 0."""
    contexts = read([[80, 0], [160, 0], [320, 0], [-1, 0]], [0.25, 0.25, 0.25, 0.25])
    sampler = ContextSampler(contexts.trained, contexts.probabilities, seed=0)
    assert [sampler.next().left for _ in range(20)] == SAMPLES


def test_what_cannot_have_ranges_says_so():
    with pytest.raises(ValueError, match=r"encoder\.att_context_size must be one context for local attention"):
        read([RANGE], model="rel_pos_local_attn")
    with pytest.raises(ValueError, match=r"encoder\.att_context_size\[1\] must be \[left, chunk, right\] under"):
        read([[8, 4, 2], RANGE], style="chunked_limited_with_rc")
    with pytest.raises(ValueError, match=r"encoder\.att_context_size\[1\]\.left must be \[first, last\]"):
        read([[80, 0], {**RANGE, "left": [320, 80]}])
    with pytest.raises(ValueError, match=r"encoder\.att_context_probs must have 2 entries"):
        read([RANGE, [-1, 0]], [0.2] * 5)
