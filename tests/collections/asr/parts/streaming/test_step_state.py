"""The past of a batch of streams, against a list for each stream."""

import pytest
import torch

from nemo.collections.asr.parts.streaming.step_state import StepState

LEFT, KERNEL = 3, 2


def new_state(streams: int, left: int = LEFT, room: int = 4) -> StepState:
    return StepState(
        attention=torch.zeros(1, streams, 2, 1, left + room, 1),
        convolution=torch.zeros(1, streams, KERNEL - 1 + room, 1),
        subsampling=[torch.zeros(streams, 1, 2, 1)],
        room=room,
    )


def write(state: StepState, frames: torch.Tensor) -> None:
    """A step that writes `frames` `[B, S]` into all caches, as keys and with the opposite sign as values."""
    count = frames.shape[1]
    state.make_room(count)
    begin = state.attention.shape[-2] - state.room + state.used
    state.attention[0, :, 0, 0, begin : begin + count, 0] = frames
    state.attention[0, :, 1, 0, begin : begin + count, 0] = -frames
    begin = state.convolution.shape[-2] - state.room + state.used
    state.convolution[0, :, begin : begin + count, 0] = frames
    state.subsampling[0][:, 0, :, 0] = frames[:, -1:]
    state.used += count


def past(state: StepState, stream: int) -> tuple[list[float], list[float]]:
    """What lies before the next frame: the keys within the left context, and the convolution's inputs."""
    end = state.attention.shape[-2] - state.room + state.used
    keys, values = state.attention[0, stream, :, 0, state.used : end, 0]
    assert torch.equal(keys, -values)
    end = state.convolution.shape[-2] - state.room + state.used
    return keys.tolist(), state.convolution[0, stream, state.used : end, 0].tolist()


def expected(frames: list[float], left: int = LEFT) -> tuple[list[float], list[float]]:
    frames = [0.0] * left + frames
    return frames[-left:], frames[-(KERNEL - 1) :]


@pytest.mark.parametrize("frames_per_step", [1, 2, 4])
def test_the_past_is_that_of_a_list_however_often_it_has_moved(frames_per_step):
    state, frames = new_state(2), [[], []]
    for step in range(12):
        new = torch.arange(1.0, frames_per_step + 1) + 10 * step + torch.tensor([[0.0], [1000.0]])
        write(state, new)
        for row, values in zip(frames, new.tolist(), strict=True):
            row += values
        assert [past(state, stream) for stream in range(2)] == [expected(row) for row in frames]


def test_selected_streams_go_on_by_themselves_and_are_put_back():
    state = new_state(3)
    write(state, torch.tensor([[1.0, 2.0], [11.0, 12.0], [21.0, 22.0]]))
    rows = torch.tensor([2, 0])
    part = state.select(rows)
    write(part, torch.tensor([[23.0, 24.0, 25.0], [3.0, 4.0, 5.0]]))
    assert past(state, 0) == expected([1.0, 2.0])
    state.put(rows, part)
    assert past(state, 0) == expected([1.0, 2.0, 3.0, 4.0, 5.0])
    assert past(state, 1) == expected([11.0, 12.0])
    assert past(state, 2) == expected([21.0, 22.0, 23.0, 24.0, 25.0])
    assert state.subsampling[0][:, 0, 0, 0].tolist() == [5.0, 12.0, 25.0]


def test_a_cleared_stream_has_no_past_and_the_others_keep_theirs():
    state = new_state(2)
    write(state, torch.tensor([[1.0, 2.0], [11.0, 12.0]]))
    state.clear(torch.tensor([0]))
    assert [past(state, stream) for stream in range(2)] == [expected([]), expected([11.0, 12.0])]
    assert state.subsampling[0][:, 0, 0, 0].tolist() == [0.0, 12.0]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_longer_past_takes_over_a_shorter_one(steps):
    short, frames = new_state(1), []
    for step in range(steps):
        write(short, torch.tensor([[step + 1.0]]))
        frames.append(step + 1.0)
    long = new_state(1, left=6, room=3)
    long.copy_past(short)
    kept = ([0.0] * 6 + frames[-LEFT:])[-6:]
    assert past(long, 0) == (kept, expected(frames)[1])
    assert long.subsampling is short.subsampling
