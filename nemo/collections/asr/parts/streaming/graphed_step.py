"""A function of tensors as a CUDA graph, for steps whose shapes never change."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

__all__ = ["GraphedStep"]

_WARM_UP = 3


class GraphedStep:
    """Calls a function of tensors; after a few calls, as a recorded CUDA graph, which costs a single launch.

    The function may also read and write tensors that are not arguments (caches), as long as these stay at the same
    address. It may depend on a phase, such as the slot of a cache that it writes. Each phase is recorded as a graph of
    its own; all graphs share one memory pool.

    Every call computes exactly once. The first calls run the function itself and serve as a warm-up. Later calls
    replay a graph. A recording computes nothing.

        >>> step = GraphedStep(function, device, switch="cuda_graphs=False")  # doctest: +SKIP
        >>> outputs = step(phase, features)  # doctest: +SKIP

    Args:
        function: takes tensors, whose shapes never change, and returns a sequence of tensors.
        device: a CUDA device.
        switch: the argument by which a user turns the graphs off; the error message names it.
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
        """Returns what `function(*inputs)` returns, in tensors that later calls do not overwrite.

        Args:
            phase: which of the function's phases this is.
            inputs: arguments of the function.

        Raises:
            RuntimeError: the function cannot be recorded; the message names `switch`.
        """
        with torch.cuda.device(self._stream.device):
            if self._calls < _WARM_UP:
                self._calls += 1
                return self._on_own_stream(inputs)
            return self._replayed(phase, inputs)

    def _replayed(self, phase: Hashable, inputs: Sequence[Tensor]) -> list[Tensor]:
        if self._inputs is None:
            self._inputs = [torch.empty_like(source) for source in inputs]
        for own, source in zip(self._inputs, inputs, strict=True):
            own.copy_(source)
        if phase not in self._graphs:
            self._graphs[phase] = self._record(phase, self._inputs)
        graph, outputs = self._graphs[phase]
        graph.replay()
        return [output.clone() for output in outputs]

    def _on_own_stream(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Runs the function on the stream of the recordings, where CUDA libraries initialise at their first use."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = self._function(*inputs)
        current.wait_stream(self._stream)
        return [output.clone() for output in outputs]

    def _record(self, phase: Hashable, inputs: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                outputs = self._function(*inputs)
        except RuntimeError as error:
            raise RuntimeError(
                f"The function could not be recorded as a CUDA graph (phase {phase}): {error}\n"
                f"Pass {self._switch} to run without CUDA graphs."
            ) from error
        return graph, outputs
