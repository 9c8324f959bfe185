"""How often each token id occurs: what can be said of tokens without listening.

A model that knows the frequencies of the tokens and nothing else has the tokens' entropy for a loss, and the share of
the most frequent one for an accuracy. Shapes: `B` utterances, `K` tokens, `Q` codebooks, `C` codes in a codebook.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["TokenDistribution", "codes_used", "count_tokens", "entropy", "perplexity"]


class TokenDistribution:
    """Counts of token ids over any number of batches, one row for each codebook.

        >>> tokens = torch.tensor([[0, 0, 1, 9], [1, 2, 2, 2]])
        >>> distribution = TokenDistribution.of(tokens, torch.tensor([3, 1]), num_classes=4)
        >>> distribution.counts.tolist(), distribution.largest_share, distribution.codes_used
        ([[2, 2, 0, 0]], 0.5, 0.5)
        >>> round(distribution.entropy, 4), round(distribution.perplexity, 4)
        (0.6931, 2.0)

    Updates do not wait for the device; reading a figure does. All figures are means over the codebooks, and 0 where
    nothing was counted.

    Args:
        num_classes: `C`, codes in a codebook.
        num_books: `Q`, codebooks.

    Attributes:
        counts: int64 `[Q, C]`, on the device of the tokens; None before the first update.

    Raises:
        TypeError, ValueError: an argument is not a whole number >= 1.
    """

    def __init__(self, num_classes: int, num_books: int = 1) -> None:
        self.num_classes = check_whole_number("num_classes", num_classes, 1)
        self.num_books = check_whole_number("num_books", num_books, 1)
        self.counts: Tensor | None = None

    @classmethod
    def of(cls, tokens: Tensor, lengths: Tensor | None, num_classes: int) -> "TokenDistribution":
        """The distribution of one batch; arguments as in `update`."""
        distribution = cls(num_classes, num_books=1 if tokens.dim() == 2 else tokens.shape[-1])
        distribution.update(tokens, lengths)
        return distribution

    @torch.no_grad()
    def update(self, tokens: Tensor, lengths: Tensor | None = None) -> None:
        """Counts a batch.

        Args:
            tokens: ids `[B, K]`, or `[B, K, Q]`. Those past the lengths may hold anything.
            lengths: `[B]`, in tokens; more than `K` counts as `K`. None: all tokens.

        Raises:
            ValueError: shapes that do not fit, or (on a CPU) counted ids outside the codebook. Nothing is counted.
        """
        tokens = _by_book("tokens", tokens, self.num_books)
        counted = None
        if lengths is not None:
            if lengths.shape != tokens.shape[:1]:
                raise ValueError(f"lengths must be [B] = [{tokens.shape[0]}]; got {list(lengths.shape)}")
            counted = torch.arange(tokens.shape[1], device=tokens.device) < lengths.to(tokens.device).unsqueeze(1)
        counts = count_tokens("tokens", tokens, counted, self.num_classes, self.num_books)
        self.counts = counts.long() if self.counts is None else self.counts + counts

    @property
    def entropy(self) -> float:
        """Entropy of the ids' frequencies, in nats."""
        return self._mean(entropy)

    @property
    def perplexity(self) -> float:
        """`exp` of a codebook's entropy: `C` if all codes are used alike, 1 if there is only one."""
        return self._mean(perplexity)

    @property
    def largest_share(self) -> float:
        """Share of the most frequent id."""
        return self._mean(lambda counts: counts.amax(dim=-1) / counts.sum(dim=-1).clamp(min=1))

    @property
    def codes_used(self) -> float:
        """Share of the codebook's codes that occur."""
        return self._mean(codes_used)

    def _mean(self, figure: Callable[[Tensor], Tensor]) -> float:
        return 0.0 if self.counts is None else float(figure(self.counts).double().mean())


def count_tokens(name: str, ids: Tensor, counted: Tensor | None, num_classes: int, num_books: int = 1) -> Tensor:
    """Counts of each id in each codebook, int32 `[Q, C]`, without waiting for the device.

    Args:
        name: what error messages call `ids`.
        ids: `[B, K]`, or `[B, K, Q]`. Those that are not counted may hold anything.
        counted: which tokens to count, bool `[B, K]`; None: all.
        num_classes: `C`.
        num_books: `Q`.

    Raises:
        ValueError: shapes that do not fit, or (on a CPU) counted ids outside the codebook.
    """
    ids = _by_book(name, ids, num_books)
    if counted is None:
        counted = torch.ones(ids.shape[:2], dtype=torch.bool, device=ids.device)
    counted = counted.unsqueeze(-1).expand_as(ids)
    ids = torch.where(counted, ids, 0).long()
    if ids.device.type == "cpu" and ((ids < 0) | (ids >= num_classes)).any():
        outside = ids[(ids < 0) | (ids >= num_classes)].unique().tolist()
        raise ValueError(f"{name} must be ids from 0 to num_classes - 1 = {num_classes - 1}; got {outside[:8]}")
    # bincount would wait for the device to learn the largest id.
    counts = torch.zeros(num_books, num_classes, dtype=torch.int32, device=ids.device)
    return counts.scatter_add_(1, ids.flatten(0, 1).t(), counted.flatten(0, 1).t().to(torch.int32))


def _by_book(name: str, ids: Tensor, num_books: int) -> Tensor:
    """Ids `[B, K]` of one codebook, or `[B, K, Q]`, to `[B, K, Q]`."""
    books = ids.unsqueeze(-1) if ids.dim() == 2 else ids
    if books.dim() != 3 or books.shape[-1] != num_books:
        one_book = "[B, K] or " if num_books == 1 else ""
        raise ValueError(f"{name} must be {one_book}[B, K, Q] with Q = {num_books} codebooks; got {list(ids.shape)}")
    return books


def entropy(counts: Tensor) -> Tensor:
    """Entropy of frequencies in nats, float64 `[...]` from counts `[..., C]`; 0 where nothing was counted."""
    shares = counts.double() / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.special.entr(shares).sum(dim=-1)


def perplexity(counts: Tensor) -> Tensor:
    """`exp` of the entropy, float64 `[...]` from counts `[..., C]`; 0 where nothing was counted."""
    return entropy(counts).exp() * (counts.sum(dim=-1) > 0)


def codes_used(counts: Tensor) -> Tensor:
    """Share of the codes that occur, float64 `[...]` from counts `[..., C]`."""
    return (counts > 0).double().mean(dim=-1)
