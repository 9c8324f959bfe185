"""Steps of a batch of streams that begin, idle and end at different times."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from nemo.collections.asr.parts.streaming.conformer_step import ConformerStep
from nemo.collections.asr.parts.streaming.graphed_step import GraphedStep
from nemo.collections.asr.parts.streaming.step_state import StepState
from nemo.collections.asr.parts.streaming.subsampling_step import StreamEdges

__all__ = ["BatchedStep"]


class BatchedStep:
    """Holds the state of B streams, and advances those that have features while the others idle.

    Args:
        step: the arithmetic of a step.
        batch_size: streams.
        limit: encoder frames of history that are kept at most; None for all.
        cuda_graphs: whether steps are recorded as CUDA graphs, as soon as the history has reached `limit`.
    """

    def __init__(self, step: ConformerStep, batch_size: int, limit: int | None, cuda_graphs: bool):
        self.encoded = np.zeros(batch_size, dtype=np.int64)
        """Encoder frames that have been computed of each stream, `[B]`; 0 for one that has not begun."""
        self.state = step.new_state(batch_size)
        """The past of all streams."""
        self._step = step
        self._batch_size = batch_size
        self._limit = limit
        self._cuda_graphs = cuda_graphs
        self._features_per_step = step.frames * step.subsampling.factor
        self._graph = self._new_graph()

    def members(self, rows: np.ndarray, finished: np.ndarray) -> np.ndarray:
        """The streams that are computed in a step of the streams `rows`.

        These are all streams if no other one has a past that it needs, since then no state has to be copied. Otherwise
        they are `rows` alone.

        Args:
            rows: indices of the streams that have features.
            finished: which streams have ended, `[B]`.
        """
        others = (self.encoded > 0) & ~finished
        others[rows] = False
        return rows if others.any() else np.arange(self._batch_size)

    def advance(
        self, rows: np.ndarray, members: np.ndarray, features: Tensor, last: np.ndarray | None
    ) -> list[Tensor]:
        """Computes one step of the streams `rows`; all others keep their past.

        Args:
            rows: indices of streams.
            members: what `members` gave for them.
            features: the next ones of each member, `[members, T, D]`, T being those of a step.
            last: how many feature frames each of `rows` still has before its end; None where all go on.

        Returns:
            Encoder frames `[members, S, D]`, of each captured layer and of the encoder.
        """
        self._grow_history(int(self.encoded[rows].max()) + self._step.frames)
        whole = len(members) == self._batch_size
        edges, history = self._edges(rows, members, last)
        state = self.state if whole else self.state.select(self._tensor(members))
        fresh = np.flatnonzero(np.isin(members, rows[self.encoded[rows] == 0]))
        if len(fresh):
            state.clear(self._tensor(fresh))
        outputs = self._run(state, features, history, edges)
        if not whole:
            self.state.put(self._tensor(members), state)
        self.encoded[rows] += self._step.frames
        return outputs

    def clear(self, rows: np.ndarray) -> None:
        """The streams of the given indices begin anew with their next step."""
        self.encoded[rows] = 0

    def _run(self, state: StepState, features: Tensor, history: int, edges: StreamEdges | None) -> list[Tensor]:
        state.make_room(self._step.frames)
        if self._graph is not None and edges is not None and state is self.state:
            outputs = self._graph(state.used, features, edges.past, edges.first, edges.stop)
        else:
            outputs = self._step.step(features, state, history, edges)
        state.used += self._step.frames
        return outputs

    def _edges(self, rows: np.ndarray, members: np.ndarray, last: np.ndarray | None) -> tuple[StreamEdges | None, int]:
        """The edges of a step of `members`, None where `rows` need none; and the longest past of `rows`."""
        encoded = self.encoded[rows]
        past = np.minimum(encoded, self._step.left)
        history = int(past.max())
        same_past = encoded.min() > 0 and past.min() == history
        if last is None and same_past and self._graph is None:
            return None, history
        edges = np.zeros((3, self._batch_size), dtype=np.int64)
        edges[0, rows] = past
        edges[1, rows] = np.where(encoded == 0, self._step.subsampling.lead, 0)
        edges[2] = self._features_per_step
        if last is not None:
            edges[2, rows] = np.minimum(last, self._features_per_step)
        past, first, stop = self._tensor(edges[:, members])
        return StreamEdges(past=past, first=first, stop=stop), history

    def _grow_history(self, frames: int) -> None:
        """Makes room for so many encoder frames of history, up to the limit; the room doubles until they fit."""
        left = self._step.left
        while left < frames and left != self._limit:
            left = 2 * left if self._limit is None else min(2 * left, self._limit)
        if left == self._step.left:
            return
        self._step.set_left(left)
        shorter, self.state = self.state, self._step.new_state(self._batch_size)
        self.state.copy_past(shorter)
        self._graph = self._new_graph()

    def _new_graph(self) -> GraphedStep | None:
        """Graphs need caches that stay at the same address, so a history that may still grow runs without them."""
        if not self._cuda_graphs or self._step.left != self._limit:
            return None
        function = partial(_fixed_shape_step, self._step, self.state)
        return GraphedStep(function, self._step.device, switch="cuda_graphs=False")

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self._step.device)


def _fixed_shape_step(
    step: ConformerStep, state: StepState, features: Tensor, past: Tensor, first: Tensor, stop: Tensor
) -> list[Tensor]:
    """A step that always attends to the whole left context, so that all shapes stay the same."""
    return step.step(features, state, step.left, StreamEdges(past=past, first=first, stop=stop))
