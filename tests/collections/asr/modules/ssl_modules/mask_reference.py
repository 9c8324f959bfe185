"""The rules of masking, written one frame at a time: slow, obvious, and without tensors.

A row is a list of booleans, True where a frame of one utterance is masked.
"""

import math

import numpy as np


def tail_window(length, width, current_frame=None):
    """First frame and width of the frames that a window of `width` frames, -1 for all, holds."""
    end = length if current_frame is None else min(current_frame, length)
    start = 0 if width == -1 else max(0, end - width)
    return start, end - start


def separate_blocks(frames, mask_prob, block_size, longest):
    """How many blocks a window of so many frames gets without overlap, and how large they are.

    The number is worked out in single precision, and bounded by what the longest possible window asks for.
    """
    blocks = math.ceil(np.float32(frames) * np.float32(mask_prob) / np.float32(block_size))
    size = block_size if (blocks + 1) * block_size <= frames else max(1, frames // (blocks + 1))
    return min(blocks, max(0, frames // size - 1), math.ceil(longest * mask_prob / block_size)), size


def single_block_size(frames, max_mask_ratio):
    """The size of the one block in a window no longer than a block; 0 where there is none."""
    return max(1, min(frames - 1, math.floor(max_mask_ratio * frames))) if frames >= 2 else 0


def runs(row):
    """First frame and length of each run of True."""
    found = []
    for frame, masked in enumerate(row):
        if masked and frame > 0 and row[frame - 1]:
            found[-1][1] += 1
        elif masked:
            found.append([frame, 1])
    return [tuple(run) for run in found]


def wholly_masked(row, length, factor):
    """For each encoder frame of the utterance, whether every frame that it has is masked."""
    return [all(row[begin : min(begin + factor, length)]) for begin in range(0, length, factor)]


def blind(whole, left):
    """The encoder frames that are wholly masked and for which the `left` before them are too, or do not exist."""
    found = []
    for index, hidden in enumerate(whole):
        first = 0 if left == -1 else max(0, index - left)
        if hidden and all(whole[first:index]):
            found.append(index)
    return found


def opened(whole, left):
    """Walk through the encoder frames and open each one that would be blind after those opened before it."""
    whole, found = list(whole), []
    for index in range(len(whole)):
        if index in blind(whole, left):
            whole[index] = False
            found.append(index)
    return found


def targets(row, factor, threshold):
    """How many encoder frames have more than `threshold` of `factor` frames masked."""
    return sum(sum(row[begin : begin + factor]) / factor > threshold for begin in range(0, len(row), factor))
