"""Greedy decoding of encoder frames that arrive a few at a time: what is decided for a frame is never taken back.

Both decoders hold one state for each stream, and give the tokens that NeMo's greedy decoding of all frames gives.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["GreedyCTC", "GreedyDecoder", "GreedyRNNT", "TimedToken"]


class TimedToken(NamedTuple):
    """A token, and the encoder frame at which it was found, counted from the beginning of its stream."""

    id: int
    frame: int


class GreedyDecoder(ABC):
    """Decodes the frames of several streams.

    Args:
        batch_size: B.
        blank: the id of the blank.
    """

    def __init__(self, batch_size: int, blank: int):
        self.batch_size, self.blank = batch_size, blank
        self._begun = [0] * batch_size

    def advance(self, frames: Tensor, lengths: Tensor) -> list[list[TimedToken]]:
        """Takes the next frames of each stream, `[B, D, S]` with lengths `[B]`, and returns their tokens."""
        counts = lengths.tolist()
        found: list[list[TimedToken]] = [[] for _ in counts]
        if frames.shape[2]:
            with torch.no_grad():
                for stream, token, place in self._decode(frames, counts):
                    found[stream].append(TimedToken(token, self._begun[stream] + place))
        self._begun = [begun + count for begun, count in zip(self._begun, counts, strict=True)]
        return found

    def reset(self, stream: int) -> None:
        """Begins a stream anew."""
        self._begun[stream] = 0

    @abstractmethod
    def _decode(self, frames: Tensor, counts: list[int]) -> list[tuple[int, int, int]]:
        """Stream, token and frame of each token, those of a stream in their order."""


class GreedyCTC(GreedyDecoder):
    """The best token of each frame, without repetitions and blanks.

    (Graves et al., "Connectionist temporal classification", 2006.)

    Args:
        decoder: NeMo's CTC decoder.
        batch_size: B.
    """

    def __init__(self, decoder: Any, batch_size: int):
        super().__init__(batch_size, decoder.num_classes_with_blank - 1)
        self._decoder = decoder
        self._last = [self.blank] * batch_size

    def _decode(self, frames: Tensor, counts: list[int]) -> list[tuple[int, int, int]]:
        best = self._decoder(encoder_output=frames).argmax(dim=2).tolist()
        found = []
        for stream, count in enumerate(counts):
            for place, token in enumerate(best[stream][:count]):
                if token not in (self.blank, self._last[stream]):
                    found.append((stream, token, place))
                self._last[stream] = token
        return found

    def reset(self, stream: int) -> None:
        """Begins a stream anew."""
        super().reset(stream)
        self._last[stream] = self.blank


class GreedyRNNT(GreedyDecoder):
    """The best token again and again, until a frame gives a blank.

    (Graves, "Sequence transduction with recurrent neural networks", 2012, https://arxiv.org/abs/1211.3711.)

    Args:
        decoder: NeMo's prediction network.
        joint: NeMo's joint network.
        batch_size: B.
        max_symbols: tokens of a frame, at most; None for any number.
    """

    def __init__(self, decoder: Any, joint: Any, batch_size: int, max_symbols: int | None):
        super().__init__(batch_size, joint.num_classes_with_blank - 1)
        self._decoder, self._joint, self.max_symbols = decoder, joint, max_symbols
        with torch.no_grad():
            self._predicted, self._state = self._predict(None, None)
        self._first = self._predicted[:1].clone(), [part.clone() for part in self._state]

    def _predict(self, labels: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        return self._decoder.predict(labels, state, add_sos=False, batch_size=self.batch_size)

    def _decode(self, frames: Tensor, counts: list[int]) -> list[tuple[int, int, int]]:
        found = []
        for place in range(max(counts)):
            going_on = torch.tensor([place < count for count in counts], device=frames.device)
            symbols = 0
            while self.max_symbols is None or symbols < self.max_symbols:
                scores = self._joint.joint(frames[:, :, place : place + 1].transpose(1, 2), self._predicted)
                tokens = scores[:, 0, 0].argmax(dim=1)
                going_on = going_on & (tokens != self.blank)
                streams = going_on.nonzero()[:, 0].tolist()
                if not streams:
                    break
                found += [(stream, int(tokens[stream]), place) for stream in streams]
                self._take(tokens, going_on)
                symbols += 1
        return found

    def _take(self, tokens: Tensor, taken: Tensor) -> None:
        """Feeds tokens `[B]` into the prediction network of the streams `taken`, bool `[B]`."""
        predicted, state = self._predict(torch.where(taken, tokens, 0).unsqueeze(1), self._state)
        self._predicted = torch.where(taken[:, None, None], predicted, self._predicted)
        kept = [part.clone() for part in self._state]
        self._decoder.batch_replace_states_mask(src_states=state, dst_states=kept, mask=taken)
        self._state = kept

    def reset(self, stream: int) -> None:
        """Begins a stream anew."""
        super().reset(stream)
        predicted, first = self._first
        chosen = torch.arange(self.batch_size, device=predicted.device) == stream
        self._predicted = torch.where(chosen[:, None, None], predicted, self._predicted)
        kept = [part.clone() for part in self._state]
        self._decoder.batch_replace_states_mask(src_states=first, dst_states=kept, mask=chosen)
        self._state = kept
