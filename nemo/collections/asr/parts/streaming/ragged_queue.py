"""A queue with one row for each stream of a batch; each row has its own length."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["RaggedQueue"]


class RaggedQueue:
    """First in, first out, one row for each stream, without a loop over the rows.

    While all rows hold the same number of items, the queue works with slices; otherwise it gathers by index.

        >>> queue = RaggedQueue(batch_size=2)
        >>> queue.append(torch.tensor([[1., 2., 3.], [4., 0., 0.]]), np.array([3, 1]))
        >>> queue.counts
        array([3, 1])
        >>> queue.drop(np.array([2, 0]))
        >>> queue.window(1)
        tensor([[3.], [4.]])

    Args:
        batch_size: rows.
        item_shape: shape of one item; `()` for audio samples, `(D,)` for feature frames of D channels.
        lead: items of zeros at the beginning of each row.
        device, dtype: of the items.
    """

    def __init__(
        self,
        batch_size: int,
        item_shape: Sequence[int] = (),
        lead: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self._lead = lead
        self._items = torch.zeros(batch_size, lead, *item_shape, device=device, dtype=dtype)
        self._start = np.zeros(batch_size, dtype=np.int64)
        self._stop = np.full(batch_size, lead, dtype=np.int64)

    @property
    def counts(self) -> np.ndarray:
        """Items that each row holds, `[B]`; those of the lead count until they are dropped."""
        return self._stop - self._start

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self._items.untyped_storage().nbytes()

    def append(self, items: Tensor, lengths: np.ndarray) -> None:
        """Appends the first `lengths[b]` items of row b of `items` `[B, N, ...]` to row b.

        The items are copied, so the caller may overwrite the tensor.
        """
        counts = self.counts
        kept = self.window(int(counts.max()))
        joined = torch.cat((kept, items), dim=1)
        if _differ(counts):
            place = np.arange((counts + lengths).max())
            gap = kept.shape[1] - counts[:, None]
            joined = _gather(joined, np.minimum(place + gap * (place >= counts[:, None]), joined.shape[1] - 1))
        self._items = joined
        self._start, self._stop = np.zeros_like(counts), counts + lengths

    def window(self, length: int, rows: np.ndarray | None = None) -> Tensor:
        """The first `length` items of each row, `[rows, length, ...]`; they stay in the queue.

        Past the items that a row holds, the values are undefined.

        Args:
            length: items of each row.
            rows: indices of the rows; None for all.
        """
        start = self._start if rows is None else self._start[rows]
        missing = int(start.max()) + length - self._items.shape[1]
        if missing > 0:
            self._items = F.pad(self._items, (0, 0) * (self._items.dim() - 2) + (0, missing))
        if not _differ(start):
            window = self._items[:, start[0] : start[0] + length]
            return window if rows is None else window[_index(rows, window)]
        items = self._items if rows is None else self._items[_index(rows, self._items)]
        return _gather(items, start[:, None] + np.arange(length))

    def drop(self, counts: np.ndarray) -> None:
        """Removes the first `counts[b]` items of row b."""
        self._start = self._start + counts

    def clear(self, rows: np.ndarray) -> None:
        """Empties the rows of the given indices; they hold the lead again."""
        if self._items.shape[1] < self._lead:
            self._items = F.pad(self._items, (0, 0) * (self._items.dim() - 2) + (0, self._lead - self._items.shape[1]))
        self._items[_index(rows, self._items)] = 0
        self._start[rows], self._stop[rows] = 0, self._lead


def _differ(numbers: np.ndarray) -> bool:
    return len(numbers) > 1 and bool((numbers != numbers[0]).any())


def _index(rows: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _gather(items: Tensor, index: np.ndarray) -> Tensor:
    """`items[b, index[b, i]]`, `[B, i, ...]`."""
    place = _index(index, items).reshape(*index.shape, *(1,) * (items.dim() - 2))
    return torch.take_along_dim(items, place, dim=1)
