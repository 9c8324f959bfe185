"""CUDA graphs for a step that is the same every time."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

__all__ = ["GraphedStep"]

_WARM_UP = 3


class GraphedStep:
    """Calls a function of tensors; once it is warm, as a recorded CUDA graph, which costs one launch.

    The function may read and write tensors that live elsewhere (caches), as long as they stay where they are. What
    it does may depend on a phase (which slot of a cache is written): each phase is recorded on its own, and all of
    them share one pool of memory.

    Every call computes exactly once: the first calls run the function as it is and serve to warm up, a recording does
    not compute, and a replay does.

        >>> step = GraphedStep(function, device, switch="cuda_graphs=False")  # doctest: +SKIP
        >>> outputs = step(phase, features)  # doctest: +SKIP

    Args:
        function: takes tensors whose shapes never change, and returns a sequence of tensors.
        device: a CUDA device.
        switch: how a user turns the graphs off; the error message names it.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]], device: torch.device, switch: str):
        self._function = function
        self._switch = switch
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._inputs: list[Tensor] | None = None
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]] = {}
        self._calls = 0

    def __call__(self, phase: Hashable, *inputs: Tensor) -> list[Tensor]:
        """What `function(*inputs)` returns, in tensors that the caller may keep."""
        with torch.cuda.device(self._stream.device):
            if self._calls < _WARM_UP:
                self._calls += 1
                return self._on_own_stream(inputs)
            return self._replayed(phase, inputs)

    def _replayed(self, phase: Hashable, inputs: Sequence[Tensor]) -> list[Tensor]:
        if self._inputs is None:
            self._inputs = [torch.empty_like(given) for given in inputs]
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        if phase not in self._graphs:
            self._graphs[phase] = self._record(phase)
        graph, outputs = self._graphs[phase]
        graph.replay()
        return [output.clone() for output in outputs]

    def _on_own_stream(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Libraries prepare themselves when they are first used on a stream; a recording must find this done."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = self._function(*inputs)
        current.wait_stream(self._stream)
        return [output.clone() for output in outputs]

    def _record(self, phase: Hashable) -> tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                outputs = self._function(*self._inputs)
        except RuntimeError as error:
            raise RuntimeError(
                f"The step could not be recorded as a CUDA graph (phase {phase}): {error}\n"
                f"Pass {self._switch} to run it without CUDA graphs."
            ) from error
        return graph, outputs
