"""Token figures are those of their definitions, whatever the batches, codebooks and device."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo.collections.asr.modules.ssl_modules.token_distribution import TokenDistribution, count_tokens

CODES = 7
FIGURES = ("entropy", "perplexity", "largest_share", "codes_used")


def expected_of(ids: list[int]) -> dict[str, float]:
    """The figures of one codebook, by their definitions."""
    if not ids:
        return dict.fromkeys(FIGURES, 0.0)
    shares = [ids.count(code) / len(ids) for code in set(ids)]
    entropy = -sum(share * math.log(share) for share in shares)
    return {
        "entropy": entropy,
        "perplexity": math.exp(entropy),
        "largest_share": max(shares),
        "codes_used": len(shares) / CODES,
    }


@st.composite
def batches(draw, books):
    """Ids [B, K, Q] with anything past the lengths [B], and the ids that count, by codebook."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    size = 6 * books * len(lengths)
    ids = draw(st.lists(st.integers(0, CODES - 1), min_size=size, max_size=size))
    tokens = torch.tensor(ids).view(len(lengths), 6, books)
    counted = [sum((row[:n, q].tolist() for row, n in zip(tokens, lengths, strict=True)), []) for q in range(books)]
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = draw(st.sampled_from([-1, 0, CODES, 10**6]))
    return tokens, torch.tensor(lengths), counted


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.data(), st.integers(1, 3), st.integers(1, 3))
def test_figures_are_the_means_of_the_codebooks_definitions(data, books, updates):
    distribution, counted = TokenDistribution(CODES, books), [[] for _ in range(books)]
    for _ in range(updates):
        tokens, lengths, ids = data.draw(batches(books))
        distribution.update(tokens, lengths)
        counted = [before + now for before, now in zip(counted, ids, strict=True)]
    assert distribution.counts.tolist() == [[ids.count(code) for code in range(CODES)] for ids in counted]
    expected = [expected_of(ids) for ids in counted]
    for name in FIGURES:
        figure = getattr(distribution, name)
        assert type(figure) is float
        assert figure == pytest.approx(sum(book[name] for book in expected) / books)


def test_one_batch_is_one_call():
    tokens, lengths = torch.randint(CODES, (3, 5, 2)), torch.tensor([5, 2, 0])
    distribution = TokenDistribution(CODES, num_books=2)
    distribution.update(tokens, lengths)
    assert torch.equal(TokenDistribution.of(tokens, lengths, CODES).counts, distribution.counts)
    assert TokenDistribution.of(tokens[..., 0], lengths, CODES).counts.tolist() == distribution.counts[:1].tolist()


def test_without_lengths_and_with_longer_ones_every_token_counts():
    tokens = torch.tensor([[0, 1, 1], [2, 2, 2]])
    for lengths in (None, torch.tensor([3, 3]), torch.tensor([4, 9])):
        assert TokenDistribution.of(tokens, lengths, 4).counts.tolist() == [[1, 2, 3, 0]]


def test_nothing_counted_is_zero():
    assert [getattr(TokenDistribution(CODES), name) for name in FIGURES] == [0.0] * 4
    empty = TokenDistribution.of(torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 0]), CODES)
    assert [getattr(empty, name) for name in FIGURES] == [0.0] * 4


def test_counts_do_not_overflow_where_one_batch_s_would():
    distribution = TokenDistribution(2)
    distribution.update(torch.zeros(1, 1, dtype=torch.long))
    distribution.counts[0, 0] += 2**31
    distribution.update(torch.zeros(1, 1, dtype=torch.long))
    assert distribution.counts.tolist() == [[2**31 + 2, 0]]


def test_inference_mode_and_training_may_alternate():
    distribution = TokenDistribution(CODES)
    with torch.inference_mode():
        distribution.update(torch.zeros(1, 2, dtype=torch.long))
    distribution.update(torch.ones(1, 2, dtype=torch.long))
    assert distribution.counts.tolist() == [[2, 2, 0, 0, 0, 0, 0]]


def test_an_update_reads_no_value_on_a_device():
    """Tensors of the device "meta" have no values: reading one raises."""
    distribution = TokenDistribution(CODES, num_books=2)
    for _ in range(2):
        distribution.update(
            torch.zeros(3, 5, 2, dtype=torch.long, device="meta"), torch.zeros(3, dtype=torch.long, device="meta")
        )
    assert distribution.counts.shape == (2, CODES) and distribution.counts.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_without_waiting():
    tokens, lengths = torch.randint(CODES, (3, 5)), torch.tensor([5, 2, 0])
    there, distribution = (tokens.cuda(), lengths.cuda()), TokenDistribution(CODES)
    before = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        distribution.update(*there)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert torch.equal(distribution.counts.cpu(), TokenDistribution.of(tokens, lengths, CODES).counts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(tokens=torch.tensor([[0, CODES]])), r"tokens must be ids from 0 to num_classes - 1 = 6; got \[7\]"),
        (dict(tokens=torch.tensor([[-1, 0]])), r"tokens must be ids .* got \[-1\]"),
        (dict(tokens=torch.tensor([0, 1])), r"tokens must be \[B, K\] or \[B, K, Q\] with Q = 1 codebooks; got \[2\]"),
        (dict(tokens=torch.zeros(1, 2, 3, dtype=torch.long)), r"tokens must be .* got \[1, 2, 3\]"),
        (dict(lengths=torch.tensor([1, 2])), r"lengths must be \[B\] = \[1\]; got \[2\]"),
    ],
)
def test_a_refused_batch_counts_nothing(arguments, message):
    distribution = TokenDistribution(CODES)
    valid = dict(tokens=torch.tensor([[0, 1]]), lengths=torch.tensor([2]))
    distribution.update(**valid)
    with pytest.raises(ValueError, match=message):
        distribution.update(**{**valid, **arguments})
    assert distribution.counts.sum() == 2


@pytest.mark.parametrize(("arguments", "error"), [((0,), ValueError), ((8, 0), ValueError), ((8.0,), TypeError)])
def test_sizes_are_whole_numbers(arguments, error):
    with pytest.raises(error, match="num_(classes|books) must be a whole number >= 1; got"):
        TokenDistribution(*arguments)


def test_chosen_tokens_are_counted():
    ids, counted = torch.tensor([[5, 9, 1]]), torch.tensor([[True, False, True]])
    assert count_tokens("ids", ids, counted, CODES).tolist() == [[0, 1, 0, 0, 0, 1, 0]]
