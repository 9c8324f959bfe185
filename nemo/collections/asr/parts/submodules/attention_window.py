"""Which keys a query of one attention layer sees, in frames, and how blocks of queries divide that up."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["AttentionWindow", "QueryBlock"]


class QueryBlock(NamedTuple):
    """Successive queries, and the keys that at least one of them sees. Ends are exclusive."""

    first_query: int
    end_query: int
    first_key: int
    end_key: int
    first_position: int
    """The first row of positions that the block uses, counted from the row of the window's `furthest_left`."""
    end_position: int
    column: int
    """`(query, key)` of the block, each counted from its first, has position row `key - query + column`, counted from
    `first_position`."""

    @property
    def queries(self) -> int:
        return self.end_query - self.first_query

    @property
    def keys(self) -> int:
        return self.end_key - self.first_key

    @property
    def positions(self) -> int:
        return self.end_position - self.first_position


class AttentionWindow(NamedTuple):
    """The keys of query `i` are those from `first(i) - left` to `first(i) + chunk - 1 + right`, both inclusive.

    `first(i)` is the first frame of the chunk of query `i`, `i` itself where a chunk is one frame. All attention
    styles of NeMo's `ConformerEncoder` are such windows.
    """

    left: int
    """Frames seen before the chunk; -1 for all."""

    chunk: int
    """Frames in a chunk, at least 1."""

    right: int
    """Frames seen after the chunk; -1 for all."""

    @classmethod
    def of_context(cls, context: Sequence[int], style: str) -> "AttentionWindow":
        """The window of an attention context.

        Args:
            context: `[left, right]`, or `[left, chunk, right]` under `chunked_limited_with_rc`, -1 for no limit, as
                NeMo's `encoder.att_context_size` has it.
            style: the encoder's `att_context_style`.
        """
        if style == "chunked_limited_with_rc":
            left, chunk, right = context
            return cls(left, chunk, right) if chunk > 0 else cls(-1, 1, -1)
        left, right = context
        if style == "regular" or right < 0:
            return cls(left, 1, right)
        chunk = right + 1
        # NeMo's mask ends after 10000 chunks to the left where the left context is unlimited.
        chunks = left // chunk if left >= 0 else 10000
        return cls(chunks * chunk, chunk, 0)

    def within(self, frames: int) -> "AttentionWindow":
        """The same window for a sequence of `frames`, with no side unlimited or longer than the sequence."""
        last = max(frames - 1, 0)
        return AttentionWindow(
            left=last if self.left < 0 else min(self.left, last),
            chunk=min(self.chunk, last + 1),
            right=last if self.right < 0 else min(self.right, last),
        )

    def sees_all(self, frames: int) -> bool:
        """Whether every query of a sequence of `frames` sees every key."""
        window = self.within(frames)
        return window.chunk >= frames or min(window.left, window.right) >= frames - 1

    def furthest_left(self, frames: int) -> int:
        """The largest `query - key` of a visible pair, of a window `within(frames)`, or more."""
        return min(self.left + self.chunk - 1, max(frames - 1, 0))

    def furthest_right(self, frames: int) -> int:
        """The largest `key - query` of a visible pair, of a window `within(frames)`, or more."""
        return min(self.right + self.chunk - 1, max(frames - 1, 0))

    def positions(self, frames: int) -> slice:
        """The rows of NeMo's table of relative positions (`2 * frames - 1`, furthest left first) that are used."""
        window = self.within(frames)
        centre = max(frames - 1, 0)
        return slice(centre - window.furthest_left(frames), centre + window.furthest_right(frames) + 1)

    def block_size(self, target: int) -> int:
        """Queries in a block: about `target`, whole chunks where they fit."""
        return target if self.chunk >= target else target // self.chunk * self.chunk

    def blocks(self, frames: int, size: int) -> Iterator[QueryBlock]:
        """Divides a sequence of `frames` into blocks of `size` queries, and a shorter last one."""
        left, chunk, right = window = self.within(frames)
        far_left, far_right = window.furthest_left(frames), window.furthest_right(frames)
        for first in range(0, frames, size):
            end = min(first + size, frames)
            first_key = max(first // chunk * chunk - left, 0)
            end_key = min((end - 1) // chunk * chunk + chunk + right, frames)
            furthest = min(end - 1 - first_key, far_left)
            nearest = min(end_key - 1 - first, far_right)
            yield QueryBlock(
                first_query=first,
                end_query=end,
                first_key=first_key,
                end_key=end_key,
                first_position=far_left - furthest,
                end_position=far_left + nearest + 1,
                column=furthest - (first - first_key),
            )

    def pairs(self, frames: int, size: int) -> int:
        """Room for the pairs of all `blocks`: at least the sum of queries times keys.

        A closed form, so that its cost does not grow with `frames` and `torch.compile` needs no loop to know it.
        """
        left, chunk, right = self.within(frames)
        number = (frames + size - 1) // size
        # Before block b lie b * size keys, of which `left` are seen, and those of the chunk that has begun.
        starting = min(number, (left + chunk - 1) // size + 1)
        seen = size * (starting * (starting - 1) // 2) + (number - starting) * (left + chunk - 1)
        return size * (seen + number * (size + chunk - 1 + right))
