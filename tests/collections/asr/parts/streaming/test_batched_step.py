"""Streams of one batch begin, idle and end at different times, and do not change one another."""

import weakref

import numpy as np
import pytest
import torch
from stream_cases import assert_same_frames, batch, collect, offline, streamed

from nemo.collections.asr.parts.streaming import EncoderStream, batched_step, encoder_stream
from nemo.collections.asr.parts.streaming.batched_step import BatchedStep
from nemo.collections.asr.parts.streaming.conformer_step import ConformerStep


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "context", "frames"),
    [
        ("regular", [8, 0], 1),
        ("regular", [0, 0], 3),
        ("regular", [-1, 0], 2),
        ("chunked", [14, 6], 1),
        ("chunked", [-1, 1], 4),
    ],
    ids=str,
)
def test_streams_that_come_and_go(request, style, context, frames):
    """Each stream gets pieces of its own sizes, ends when its utterance does, and is replaced by a new one."""
    model, generator = request.getfixturevalue(style), np.random.default_rng(frames)
    audio, lengths = batch(generator.integers(0, 60000, size=9).tolist() + [250000])
    stream, waiting = EncoderStream(model, context, batch_size=3, frames_per_step=frames), list(range(10))
    running = {row: waiting.pop() for row in range(3)}
    done, pieces = {index: 0 for index in range(10)}, {index: [] for index in range(10)}

    def take(output, rows):
        for row in rows:
            pieces[running[row]].append(output[0][row, :, : output[1][row]])

    while running:
        sizes = np.zeros(3, dtype=np.int64)
        for row, index in running.items():
            limit = generator.choice([100, 1280, 1280, 20000])
            sizes[row] = min(generator.integers(0, limit + 1), int(lengths[index]) - done[index])
        piece = torch.zeros(3, int(sizes.max()))
        for row, index in running.items():
            piece[row, : sizes[row]] = audio[index, done[index] : done[index] + sizes[row]]
            done[index] += int(sizes[row])
        take(stream.push(piece, sizes), running)
        for row in [row for row, index in running.items() if done[index] == lengths[index]]:
            take(stream.finish(row), [row])
            del running[row]
            if waiting:
                running[row] = waiting.pop()
                stream.reset(row)
    ours = [torch.cat(pieces[index], dim=-1) for index in range(10)]
    assert_same_frames(ours, offline(model, context, audio, lengths))


def test_streams_of_different_contexts_on_one_model(regular):
    audio, lengths = batch([40000])
    contexts = [[8, 0], [0, 0], [-1, 0]]
    streams = [EncoderStream(regular, context) for context in contexts]
    pieces = [[[]] for _ in contexts]
    for piece in torch.split(audio, 1700, dim=1):
        for row, stream in zip(pieces, streams, strict=True):
            collect(row, stream.push(piece))
    for row, stream in zip(pieces, streams, strict=True):
        collect(row, stream.finish())
    for row, context in zip(pieces, contexts, strict=True):
        assert_same_frames([torch.cat(row[0], dim=-1)], offline(regular, context, audio, lengths))


@pytest.mark.parametrize(
    ("encoded", "finished", "rows", "members"),
    [
        ([0, 0, 0], [0, 0, 0], [1], [0, 1, 2]),
        ([4, 4, 4], [0, 0, 0], [0, 1, 2], [0, 1, 2]),
        ([4, 4, 0], [0, 0, 0], [0, 1], [0, 1, 2]),
        ([4, 4, 2], [0, 0, 1], [0, 1], [0, 1, 2]),
        ([4, 4, 2], [0, 0, 0], [0, 1], [0, 1]),
        ([4, 0, 2], [1, 0, 0], [1], [1]),
    ],
    ids=str,
)
def test_idle_streams_are_left_out_only_if_they_need_their_past(regular, encoded, finished, rows, members):
    steps = BatchedStep(ConformerStep(regular.encoder, 1, 1, 8), batch_size=3, limit=8, cuda_graphs=False)
    steps.encoded[:] = encoded
    assert steps.members(np.array(rows), np.array(finished, dtype=bool)).tolist() == members


@torch.inference_mode()
def test_a_stream_that_idles_keeps_its_past(regular):
    steps = BatchedStep(ConformerStep(regular.encoder, 1, 1, 8), batch_size=2, limit=8, cuda_graphs=False)
    features, both = torch.randn(2, 8, 16), np.arange(2)
    steps.advance(both, both, features, None)
    before = [steps.state.select(torch.tensor([row])) for row in both]
    steps.advance(both[:1], both[:1], features[:1], None)
    after = [steps.state.select(torch.tensor([row])) for row in both]
    assert steps.encoded.tolist() == [2, 1]
    assert not torch.equal(after[0].attention, before[0].attention)
    assert torch.equal(after[1].attention, before[1].attention)
    assert torch.equal(after[1].convolution, before[1].convolution)
    assert all(torch.equal(*pair) for pair in zip(after[1].subsampling, before[1].subsampling, strict=True))


@torch.inference_mode()
@pytest.mark.parametrize(("limit", "lefts"), [(None, [128, 256, 256, 512]), (300, [128, 256, 256, 300])], ids=str)
def test_room_for_an_unlimited_history_doubles_up_to_its_limit(regular, limit, lefts):
    step = ConformerStep(regular.encoder, 1, 1, 128)
    steps, row = BatchedStep(step, batch_size=1, limit=limit, cuda_graphs=False), np.arange(1)
    seen = []
    for encoded in (127, 128, 255, 511):
        steps.encoded[:] = encoded
        steps.advance(row, row, torch.randn(1, 8, 16), None)
        seen.append(step.left)
    assert seen == lefts


class RecordedCalls:
    """In place of a `GraphedStep`: runs the function, and keeps the phases."""

    def __init__(self, function, device, switch):
        self.function, self.phases = function, []
        assert switch == "cuda_graphs=False"

    def __call__(self, phase, *inputs):
        self.phases.append(phase)
        return self.function(*inputs)


@pytest.mark.parametrize(("style", "context"), [("regular", [8, 0]), ("chunked", [14, 6])], ids=str)
def test_the_step_that_a_graph_records_gives_the_same_frames(request, monkeypatch, style, context):
    """It always attends to the whole left context, and finds in its inputs where streams begin and end."""
    graphs = []

    def recorded(*arguments, **named):
        graphs.append(RecordedCalls(*arguments, **named))
        return graphs[-1]

    monkeypatch.setattr(encoder_stream, "uses_cuda_graphs", lambda *options: True)
    monkeypatch.setattr(batched_step, "GraphedStep", recorded)
    model = request.getfixturevalue(style)
    audio, lengths = batch([40000, 12345, 30001])
    ours = streamed(EncoderStream(model, context, batch_size=3), audio, lengths, [1280])
    assert_same_frames(ours, offline(model, context, audio, lengths))
    (graph,) = graphs
    assert len(graph.phases) > len(set(graph.phases)) > 0


@pytest.mark.parametrize("end", [EncoderStream.close, EncoderStream.reset])
def test_a_graph_does_not_keep_old_caches_alive(regular, monkeypatch, end):
    monkeypatch.setattr(encoder_stream, "uses_cuda_graphs", lambda *options: True)
    monkeypatch.setattr(batched_step, "GraphedStep", RecordedCalls)
    stream = EncoderStream(regular, [8, 0])
    stream.push(torch.zeros(5000))
    cache = weakref.ref(stream._batch.state.attention)
    end(stream)
    assert cache() is None
