"""What can be said of the tokens without hearing anything: by how often each occurs, and by an earlier token.

A model that knows the frequencies alone has their entropy for a loss. One that forecasts must beat the pairs: a token
predicted from the one `n` before it, which is what step `n` of future-token prediction can know at least.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

__all__ = ["Baselines", "TokenCounts"]

_WEIGHTS = tuple(2.0**power for power in range(-4, 13))
"""Weights of the frequencies beside a pair's own counts; the best one is taken."""

_PAIRS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Baselines:
    """Losses and accuracies without a model, means over the codebooks."""

    entropy: float
    """Entropy of the tokens by their frequencies, in nats."""

    most_frequent: float
    """Share of the most frequent token."""

    given_earlier: tuple[float, ...]
    """Cross-entropy of a token given the one 1, 2, ... N before it, in nats. Each token is left out of the counts that
    predict it: counts of few tokens would otherwise know them by heart."""

    @property
    def mean_given_earlier(self) -> float:
        """The mean over the steps: what the mean loss of future-token prediction must beat."""
        return sum(self.given_earlier) / len(self.given_earlier)

    @property
    def bigram(self) -> float:
        """Cross-entropy given the token before."""
        return self.given_earlier[0]

    def metrics(self, mode: str) -> dict[str, float]:
        """What to log: `{mode}_token_entropy`, and `{mode}_token_entropy_given_1`, ..."""
        given = {f"{mode}_token_entropy_given_{lag}": value for lag, value in enumerate(self.given_earlier, start=1)}
        return {f"{mode}_token_entropy": self.entropy, **given}


class TokenCounts:
    """Counts single tokens and pairs of tokens of any number of batches.

    Args:
        num_classes: C, codes in a codebook.
        lags: N; pairs of tokens 1 .. N apart are counted.
    """

    def __init__(self, num_classes: int, lags: int = 1):
        self.num_classes = num_classes
        self.lags = lags
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._pairs = [_Counts() for _ in range(lags + 1)]

    def add(self, tokens: Tensor, lengths: Tensor) -> None:
        """Takes the tokens of a batch, `[B, K, Q]` or `[B, K]`, with lengths `[B]`; does not wait for the device."""
        tokens = tokens if tokens.dim() == 3 else tokens.unsqueeze(2)
        self._waiting.append((tokens.to(torch.int32), lengths))

    def merge(self, other: "TokenCounts") -> None:
        """Adds what another one, of the same sizes, has counted."""
        self._count()
        other._count()
        for ours, theirs in zip(self._pairs, other._pairs, strict=True):
            ours.add(theirs.ids, theirs.counts)

    def over_ranks(self) -> "TokenCounts":
        """The counts of all ranks, where there are several; a collective."""
        self._count()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self)
        whole = TokenCounts(self.num_classes, self.lags)
        for part in parts:
            whole.merge(part)
        return whole

    def baselines(self) -> Baselines | None:
        """The figures; None where no token was counted."""
        self._count()
        singles, *pairs = self._pairs
        if len(singles.ids) == 0:
            return None
        counts = singles.by_book(self.num_classes)
        total = np.maximum(counts.sum(1, keepdims=True), 1)
        shares = counts / total
        entropy = -np.where(counts > 0, shares * np.log(np.where(counts > 0, shares, 1)), 0).sum(1).mean()
        given = tuple(_cross_entropy(counts, pair, self.num_classes) for pair in pairs)
        return Baselines(float(entropy), float(shares.max(1).mean()), given)

    def _count(self) -> None:
        """Counts the batches that wait, on the CPU. An id of a pair is `(book * C + earlier) * C + later`."""
        for tokens, lengths in self._waiting:
            ids = tokens.cpu().numpy().astype(np.int64)
            ids += np.arange(ids.shape[2]) * self.num_classes
            inside = np.arange(ids.shape[1]) < lengths.cpu().numpy()[:, None]
            self._pairs[0].add(ids[inside].ravel())
            for lag in range(1, self.lags + 1):
                later = ids[:, lag:] % self.num_classes
                self._pairs[lag].add((ids[:, :-lag] * self.num_classes + later)[inside[:, lag:]].ravel())
        self._waiting.clear()


class _Counts:
    """How often each of many numbers occurs."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, ids: np.ndarray, counts: np.ndarray | None = None) -> None:
        self._parts.append((ids, np.ones(len(ids), dtype=np.int64) if counts is None else counts))
        if sum(len(ids) for ids, _ in self._parts) > _PAIRS_AT_ONCE:
            self._merge()

    def _merge(self) -> None:
        if len(self._parts) == 0:
            self._parts.append((np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)))
        ids, place = np.unique(np.concatenate([ids for ids, _ in self._parts]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts for _, counts in self._parts]), minlength=len(ids))
        self._parts = [(ids, counts.astype(np.int64))]

    @property
    def ids(self) -> np.ndarray:
        self._merge()
        return self._parts[0][0]

    @property
    def counts(self) -> np.ndarray:
        self._merge()
        return self._parts[0][1]

    def by_book(self, num_classes: int) -> np.ndarray:
        """Counts of single tokens, `[Q, C]`."""
        books = int(self.ids.max()) // num_classes + 1
        table = np.zeros(books * num_classes, dtype=np.int64)
        table[self.ids] = self.counts
        return table.reshape(books, num_classes)


def _cross_entropy(counts: np.ndarray, pairs: _Counts, num_classes: int) -> float:
    """Mean over books of `-log p(later | earlier)`, each pair predicted from all others.

    `p` is the share of the pair among those of its earlier token, with `w` pairs added that have the frequencies of
    single tokens (of which each code has one more, so that none has probability 0); `w` is the best of `_WEIGHTS`.
    """
    if len(pairs.ids) == 0:
        return 0.0
    book, earlier = pairs.ids // num_classes**2, pairs.ids // num_classes % num_classes
    later = pairs.ids % num_classes
    of_earlier = np.bincount(book * num_classes + earlier, pairs.counts, minlength=counts.size)
    others = of_earlier[book * num_classes + earlier] - 1
    frequency = counts[book, later] / (counts.sum(1)[book] - 1 + num_classes)
    per_book = np.bincount(book, pairs.counts, minlength=len(counts))
    losses = []
    for weight in _WEIGHTS:
        share = (pairs.counts - 1 + weight * frequency) / (others + weight)
        sums = np.bincount(book, -pairs.counts * np.log(share), minlength=len(counts))
        losses.append((sums / np.maximum(per_book, 1)).mean())
    return float(min(losses))
