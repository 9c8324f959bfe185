"""What a batch of streams remembers from one step of the encoder to the next."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["StepState"]


@dataclass
class StepState:
    """The past of B streams in all L layers.

    New frames are written behind the past ones, into some room; only when that is full the past moves to the front.
    """

    attention: Tensor
    """Projected keys and values, `[L, B, 2, H, left + room, D / H]`."""

    convolution: Tensor
    """Inputs of the depthwise convolutions, `[L, B, kernel - 1 + room, D]`."""

    subsampling: list[Tensor]
    """Last inputs of the strided convolutions, each `[B, channels, kernel - stride, width]`."""

    room: int
    """Encoder frames that can be written before the past has to move."""

    used: int = 0
    """Encoder frames of the room that have been written."""

    def make_room(self, frames: int) -> None:
        """Moves the past to the front if the next `frames` encoder frames would not fit in behind it."""
        if self.used + frames <= self.room:
            return
        for cache in (*self.attention, *self.convolution):
            cache[..., : cache.shape[-2] - self.room, :] = self._past(cache).clone()
        self.used = 0

    def select(self, rows: Tensor) -> "StepState":
        """A copy that holds the streams of the given indices alone."""
        subsampling = [memory[rows] for memory in self.subsampling]
        return StepState(self.attention[:, rows], self.convolution[:, rows], subsampling, self.room, self.used)

    def put(self, rows: Tensor, other: "StepState") -> None:
        """Takes over the past of the given streams from a `select`ed state that has made steps of its own."""
        for mine, theirs in ((self.attention, other.attention), (self.convolution, other.convolution)):
            self._past(mine)[:, rows] = other._past(theirs)
        for mine, theirs in zip(self.subsampling, other.subsampling, strict=True):
            mine[rows] = theirs

    def clear(self, rows: Tensor) -> None:
        """Sets the streams of the given indices back to their beginning."""
        self.attention[:, rows] = 0
        self.convolution[:, rows] = 0
        for memory in self.subsampling:
            memory[rows] = 0

    def copy_past(self, other: "StepState") -> None:
        """Takes over the past of all streams from a state with a shorter left context."""
        for mine, theirs in ((self.attention, other.attention), (self.convolution, other.convolution)):
            past = other._past(theirs)
            self._past(mine)[..., -past.shape[-2] :, :] = past
        self.subsampling = other.subsampling

    def _past(self, cache: Tensor) -> Tensor:
        """The part of a cache that lies before the next frame to come."""
        return cache[..., self.used : self.used + cache.shape[-2] - self.room, :]
