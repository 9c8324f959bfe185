"""How training chooses between several contexts."""

from collections import Counter

import pytest

from nemo.collections.asr.parts.attention_context import ContextSampler


def test_samples_depend_on_seed_and_count_alone():
    contexts = [[80, 0], [160, 0], [-1, 0]]
    sampled = [ContextSampler(contexts, seed=3).at(count) for count in range(50)]
    sampler = ContextSampler(contexts, seed=3)
    assert [sampler.next() for _ in range(50)] == sampled
    assert [ContextSampler(contexts, seed=4).at(count) for count in range(50)] != sampled
    assert sampler.at(7) == sampled[7] and sampler.count == 50


def test_a_sampler_goes_on_from_its_state():
    sampler = ContextSampler([[80, 0], [-1, 0]], seed=1)
    ahead = [sampler.next() for _ in range(20)]
    resumed = ContextSampler([[80, 0], [-1, 0]], seed=1)
    resumed.load_state_dict({**sampler.state_dict(), "count": 12})
    assert [resumed.next() for _ in range(8)] == ahead[12:]


def test_a_state_of_version_0_1_0_is_taken_up():
    sampler = ContextSampler([[80, 0], [-1, 0]], seed=1)
    sampler.load_state_dict({"seed": 1, "count": 5})
    assert sampler.count == 5


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (dict(seed=2), "model.context_seed must be 1.*got 2"),
        (dict(contexts=[[80, 0], [160, 0]]), r"encoder.att_context_size must be \[\[80, 0\], \[-1, 0\]\]"),
        (dict(probabilities=[0.25, 0.75]), r"encoder.att_context_probs must be \[0.5, 0.5\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(ours, message):
    state = ContextSampler([[80, 0], [-1, 0]], [0.5, 0.5], seed=1).state_dict() | {"count": 7}
    sampler = ContextSampler(**{"contexts": [[80, 0], [-1, 0]], "probabilities": [0.5, 0.5], "seed": 1, **ours})
    with pytest.raises(ValueError, match=message):
        sampler.load_state_dict(state)
    assert sampler.count == 0


def test_samples_follow_the_probabilities():
    """20,000 samples: each share within 4.5 standard deviations, a false alarm in about 1 of 30,000 seeds."""
    probabilities, samples = [0.5, 0.3, 0.2], 20_000
    sampler = ContextSampler([[1, 0], [2, 0], [3, 0]], probabilities)
    counts = Counter(sampler.at(count).left for count in range(samples))
    for left, probability in zip([1, 2, 3], probabilities, strict=True):
        deviation = (probability * (1 - probability) * samples) ** 0.5
        assert abs(counts[left] - probability * samples) < 4.5 * deviation


@pytest.mark.parametrize("probabilities", [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
def test_a_context_of_probability_zero_is_never_sampled(probabilities):
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
        ([0.5], r"2 entries.*got \[0.5\]"),
        ([0.5, 0.6], "sums to 1.1"),
        ([1.5, -0.5], "must be numbers >= 0"),
        ([float("nan"), 1.0], "must be numbers >= 0"),
    ],
)
def test_bad_probabilities_are_refused_with_their_figures(probabilities, message):
    with pytest.raises(ValueError, match=f"encoder.att_context_probs.*{message}"):
        ContextSampler([[1, 0], [2, 0]], probabilities, name="encoder.att_context_probs")


def test_no_contexts_and_a_bad_seed_are_refused():
    with pytest.raises(ValueError, match="contexts must be .*empty"):
        ContextSampler([])
    with pytest.raises(TypeError, match="seed must be a whole number; got 1.5"):
        ContextSampler([[1, 0]], seed=1.5)


def test_contexts_of_a_seed_are_those_of_version_0_1_0():
    sampler = ContextSampler([[80, 0], [160, 0], [-1, 0]], seed=3)
    places = [sampler.contexts.index(sampler.at(count)) for count in range(24)]
    assert places == [1, 0, 2, 1, 0, 2, 0, 2, 1, 1, 2, 0, 1, 1, 1, 0, 2, 2, 2, 2, 0, 0, 2, 1]


def test_what_is_left_of_a_sample_is_uniform_whatever_the_context():
    sampler = ContextSampler([[80, 0], [160, 0], [-1, 0], [8, 0]], probabilities=[0.5, 0.3, 0.2, 0.0], seed=5)
    left = {context: [] for context in sampler.contexts}
    for count in range(6000):
        left[sampler.at(count)].append(sampler.remainder_at(count))
    assert [len(values) > 1000 for values in left.values()] == [True, True, True, False]
    for values in list(left.values())[:3]:
        assert all(0 <= value < 1 for value in values)
        for bound in (0.1, 0.5, 0.9):
            assert sum(value < bound for value in values) / len(values) == pytest.approx(bound, abs=0.05)
    assert sampler.remainder_at(7) == sampler.remainder_at(7) and sampler.count == 0
