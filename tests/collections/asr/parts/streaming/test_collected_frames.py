"""The frames of several steps are put together by stream."""

import numpy as np
import pytest
import torch

from nemo.collections.asr.parts.streaming.collected_frames import CollectedFrames


def collected(batch_size: int, frames_per_step: int, steps: list[tuple[list[int], list[int]]]):
    """Steps of (members, lengths), their frames being counted values; and the values in a list for each stream."""
    frames, lists = CollectedFrames(batch_size, frames_per_step), [[] for _ in range(batch_size)]
    value = 0.0
    for members, lengths in steps:
        output = value + torch.arange(len(members) * frames_per_step).reshape(len(members), frames_per_step, 1).float()
        output = output.expand(-1, -1, 3)
        value += output[..., 0].numel()
        frames.add(np.array(members), np.array(lengths), [output, -output])
        for row, member in enumerate(members):
            lists[member] += output[row, : lengths[row], 0].tolist()
    return frames, lists


@pytest.mark.parametrize(
    ("batch_size", "frames_per_step", "steps"),
    [
        (1, 1, [([0], [1]), ([0], [1])]),
        (2, 3, [([0, 1], [3, 3]), ([0, 1], [3, 1])]),
        (3, 2, [([0, 1, 2], [2, 2, 0]), ([0, 1, 2], [2, 1, 0])]),
        (3, 2, [([0, 2], [2, 2]), ([2], [2]), ([2], [1])]),
        (3, 1, [([0, 1, 2], [1, 1, 1]), ([1], [1]), ([1], [1])]),
    ],
    ids=str,
)
def test_each_stream_gets_its_own_frames_and_zeros_past_them(batch_size, frames_per_step, steps):
    frames, lists = collected(batch_size, frames_per_step, steps)
    (first, second), lengths = frames.frames(2, 3, torch.device("cpu"), torch.float32)
    assert lengths.tolist() == [len(row) for row in lists]
    assert first.shape == second.shape == (batch_size, 3, max(map(len, lists)))
    for row, expected in enumerate(lists):
        padded = expected + [0.0] * (first.shape[2] - len(expected))
        assert [channel.tolist() for channel in first[row]] == [padded] * 3
        assert torch.equal(second[row], -first[row])


@pytest.mark.parametrize("steps", [[], [([0, 1], [0, 0])]], ids=["no step", "no frame"])
def test_no_frames_have_the_shape_and_type_of_frames(steps):
    frames, _ = collected(2, 1, steps)
    (output,), lengths = frames.frames(1, 3, torch.device("cpu"), torch.bfloat16)
    assert (output.shape, output.dtype, lengths.tolist()) == ((2, 3, 0), torch.bfloat16, [0, 0])
