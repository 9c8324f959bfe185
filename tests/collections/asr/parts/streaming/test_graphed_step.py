"""A graphed step computes what the function computes, once for each call."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from stream_cases import assert_same_frames, batch, offline, streamed

from nemo.collections.asr.parts.streaming import EncoderStream
from nemo.collections.asr.parts.streaming.graphed_step import GraphedStep

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none")


class FakeCuda:
    """CUDA streams and graphs on a CPU: a kernel that is launched during a recording runs at each replay only."""

    def __init__(self, monkeypatch):
        self.graphs, self.runs, self._recording = [], 0, None
        for name, value in {
            "Stream": lambda device: self,
            "CUDAGraph": self.new_graph,
            "graph_pool_handle": lambda: None,
            "current_stream": lambda device: self,
            "stream": self.unchanged,
            "device": self.unchanged,
            "graph": self.record,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        self.device = torch.device("cpu")
        self.wait_stream = lambda other: None

    @contextmanager
    def unchanged(self, stream_or_device):
        yield

    @contextmanager
    def record(self, graph, pool, stream):
        self._recording = graph
        yield
        self._recording = None

    def new_graph(self):
        self.graphs.append(FakeGraph())
        return self.graphs[-1]

    def launch(self, kernel):
        if self._recording is not None:
            self._recording.kernels.append(kernel)
        else:
            self.runs += 1
            kernel()


class FakeGraph:
    def __init__(self):
        self.kernels, self.replays = [], 0

    def replay(self):
        self.replays += 1
        for kernel in self.kernels:
            kernel()


@pytest.fixture
def cuda(monkeypatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def counting(cuda):
    """A function that adds its input to one of two running sums, and the graphed form of it."""
    sums, slot = torch.zeros(2), [0]

    def add(value: torch.Tensor) -> list[torch.Tensor]:
        place, output = slot[0], torch.empty(1)

        def kernel():
            sums[place] += value[0]
            output.copy_(sums[place])

        cuda.launch(kernel)
        return [output]

    step = GraphedStep(add, torch.device("cpu"), switch="graphs=False")

    def call(phase: int, value: float) -> torch.Tensor:
        slot[0] = phase
        return step(phase, torch.tensor([value]))[0]

    return call, sums


def test_every_call_computes_exactly_once(counting):
    call, sums = counting
    for value in range(1, 11):
        assert call(0, value).item() == value * (value + 1) / 2
    assert sums.tolist() == [55, 0]


def test_each_phase_is_recorded_once(cuda, counting):
    call, sums = counting
    for value in range(10):
        call(value % 2, float(value))
    assert sums.tolist() == [20, 25]
    assert len(cuda.graphs) == 2
    assert cuda.runs + sum(graph.replays for graph in cuda.graphs) == 10


def test_outputs_may_be_kept(counting):
    call, _ = counting
    assert [output.item() for output in [call(0, 1.0) for _ in range(8)]] == list(range(1, 9))


def test_a_function_that_cannot_be_recorded_names_the_switch(cuda, monkeypatch):
    @contextmanager
    def refuse(graph, pool, stream):
        raise RuntimeError("operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    step = GraphedStep(lambda value: [value], torch.device("cpu"), switch="graphs=False")
    for _ in range(3):
        step(0, torch.zeros(1))
    with pytest.raises(RuntimeError, match=r"phase 0\): operation not permitted(.|\n)*Pass graphs=False"):
        step(0, torch.zeros(1))


@needs_gpu
class TestGraphs:
    @pytest.fixture(autouse=True)
    def exact_convolutions(self, monkeypatch):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)

    @pytest.mark.parametrize("size", [1, 8, 64])
    @pytest.mark.parametrize(("style", "context"), [("regular", [8, 0]), ("chunked", [14, 6])], ids=str)
    def test_graphed_steps_give_the_frames_of_plain_ones(self, request, style, context, size):
        model = copy.deepcopy(request.getfixturevalue(style)).cuda()
        audio, lengths = batch(np.linspace(20000, 60000, size).astype(int).tolist())
        graphed = EncoderStream(model, context, batch_size=size, cuda_graphs=True)
        plain = EncoderStream(model, context, batch_size=size, cuda_graphs=False)
        ours = streamed(graphed, audio.cuda(), lengths, [1280])
        assert_same_frames(ours, streamed(plain, audio.cuda(), lengths, [1280]))
        assert_same_frames(ours, offline(model, context, audio.cuda(), lengths.cuda()))

    def test_streams_are_replaced_under_graphs(self, regular):
        model = copy.deepcopy(regular).cuda()
        audio, lengths = batch([40000, 20000, 20000])
        stream, pieces = EncoderStream(model, [8, 0], batch_size=2, cuda_graphs=True), [[], [], []]
        out, count = stream.push(audio[:2, :20000])
        ended, more = stream.finish(1)
        pieces[0].append(out[0])
        pieces[1] += [out[1], ended[1, :, : more[1]]]
        stream.reset(1)
        for begin in range(0, 20000, 1280):
            piece = torch.stack((audio[0, 20000:], audio[2, :20000]))[:, begin : begin + 1280]
            out, count = stream.push(piece)
            pieces[0].append(out[0, :, : count[0]])
            pieces[2].append(out[1, :, : count[1]])
        out, count = stream.finish()
        pieces[0].append(out[0, :, : count[0]])
        pieces[2].append(out[1, :, : count[1]])
        ours = [torch.cat(row, dim=-1) for row in pieces]
        assert_same_frames(ours, offline(model, [8, 0], audio.cuda(), lengths.cuda()))

    def test_a_growing_history_runs_without_graphs(self, regular):
        model = copy.deepcopy(regular).cuda()
        with pytest.raises(ValueError, match="cuda_graphs must be None or False for context"):
            EncoderStream(model, "unlimited", cuda_graphs=True)
        audio, lengths = batch([250000])
        ours = streamed(EncoderStream(model, "unlimited"), audio.cuda(), lengths, [16000])
        assert_same_frames(ours, offline(model, [-1, 0], audio.cuda(), lengths.cuda()))
