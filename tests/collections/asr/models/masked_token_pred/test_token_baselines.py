"""Entropies of tokens by frequency and given an earlier token, against slow counts."""

import math
from collections import Counter

import pytest
import torch

from nemo.collections.asr.models.masked_token_pred.token_baselines import _WEIGHTS, TokenCounts

CLASSES = 6


def sequences(seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([7, 20, 1, 13])
    return torch.randint(CLASSES, (4, 20, 2), generator=generator) ** 2 % CLASSES, lengths


def slow_given_earlier(tokens, lengths, lag):
    losses = []
    for book in range(tokens.shape[2]):
        rows = [row[:count, book].tolist() for row, count in zip(tokens, lengths.tolist(), strict=True)]
        singles = Counter(token for row in rows for token in row)
        pairs = [pair for row in rows for pair in zip(row, row[lag:], strict=False)]
        by_weight = []
        for weight in _WEIGHTS:
            loss = 0.0
            for index, (earlier, later) in enumerate(pairs):
                others = pairs[:index] + pairs[index + 1 :]
                frequency = singles[later] / (sum(singles.values()) - 1 + CLASSES)
                same = others.count((earlier, later))
                loss -= math.log((same + weight * frequency) / (sum(pair[0] == earlier for pair in others) + weight))
            by_weight.append(loss / len(pairs))
        losses.append(by_weight)
    return min(sum(book[index] for book in losses) / len(losses) for index in range(len(_WEIGHTS)))


def test_figures_are_those_of_slow_counts():
    tokens, lengths = sequences()
    counts = TokenCounts(CLASSES, lags=2)
    counts.add(tokens[:2], lengths[:2])
    counts.add(tokens[2:], lengths[2:])
    baselines = counts.baselines()
    entropy = most = 0.0
    for book in range(2):
        ids = [token for row, n in zip(tokens, lengths.tolist(), strict=True) for token in row[:n, book].tolist()]
        shares = [number / len(ids) for number in Counter(ids).values()]
        entropy += -sum(share * math.log(share) for share in shares) / 2
        most += max(shares) / 2
    assert baselines.entropy == pytest.approx(entropy)
    assert baselines.most_frequent == pytest.approx(most)
    for lag in (1, 2):
        assert baselines.given_earlier[lag - 1] == pytest.approx(slow_given_earlier(tokens, lengths, lag))
    assert baselines.bigram == baselines.given_earlier[0]
    assert set(baselines.metrics("val")) == {f"val_token_entropy{end}" for end in ("", "_given_1", "_given_2")}


def test_a_chain_is_known_by_the_token_before_and_noise_is_not():
    chain = (torch.arange(4000) % 5).view(1, -1)
    noise = torch.randint(5, (1, 4000), generator=torch.Generator().manual_seed(0))
    of_chain, of_noise = TokenCounts(5), TokenCounts(5)
    of_chain.add(chain, torch.tensor([4000]))
    of_noise.add(noise, torch.tensor([4000]))
    assert of_chain.baselines().bigram < 0.01 < 1.6 < of_chain.baselines().entropy
    # 25 pairs of 4000 tokens would seem to know something if each token helped to predict itself.
    assert of_noise.baselines().bigram == pytest.approx(math.log(5), abs=0.005)
    assert of_noise.baselines().bigram > of_noise.baselines().entropy - 1e-3


def test_few_tokens_of_many_codes_are_not_known_by_heart():
    noise = torch.randint(1000, (1, 500), generator=torch.Generator().manual_seed(0))
    counts = TokenCounts(1000)
    counts.add(noise, torch.tensor([500]))
    assert counts.baselines().bigram > 6


def test_merged_counts_are_those_of_all_batches(monkeypatch):
    tokens, lengths = sequences()
    whole, parts = TokenCounts(CLASSES, 2), [TokenCounts(CLASSES, 2) for _ in range(2)]
    whole.add(tokens, lengths)
    parts[0].add(tokens[:1], lengths[:1])
    parts[1].add(tokens[1:], lengths[1:])
    parts[0].merge(parts[1])
    assert parts[0].baselines() == whole.baselines() == whole.over_ranks().baselines()
    monkeypatch.setattr("nemo.collections.asr.models.masked_token_pred.token_baselines._PAIRS_AT_ONCE", 3)
    small = TokenCounts(CLASSES, 2)
    for row, length in zip(tokens, lengths, strict=True):
        small.add(row[None], length[None])
    assert small.baselines() == whole.baselines()


def test_nothing_counted_is_no_figure():
    counts = TokenCounts(CLASSES)
    assert counts.baselines() is None
    counts.add(torch.zeros(1, 4, dtype=torch.long), torch.tensor([0]))
    assert counts.baselines() is None
