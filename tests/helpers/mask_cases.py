"""What masks are tested on: strategies for batches, windows and masks."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

batches = st.integers(0, 90).flatmap(
    lambda time: st.tuples(st.just(time), st.lists(st.integers(0, time), min_size=1, max_size=6))
)
widths = st.one_of(st.just(-1), st.integers(0, 100))
factors = st.integers(1, 9)
lefts = st.one_of(st.just(-1), st.integers(0, 12))
probs = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
seeds = st.integers(0, 2**31)

properties = settings(deadline=None, max_examples=150, derandomize=True)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def windows_of(window, batch):
    """First frame and width of each utterance's window, as Python numbers."""
    start = torch.zeros_like(window.width) if window.start is None else window.start
    assert start.shape == window.width.shape == (batch, 1)
    return list(zip(start.flatten().tolist(), window.width.flatten().tolist(), strict=True))


@st.composite
def masks(draw):
    """A mask with long runs, and the lengths past which it is clear."""
    time, lengths = draw(batches)
    rows = torch.zeros(len(lengths), time, dtype=torch.bool)
    for row, length in zip(rows, lengths, strict=True):
        for _ in range(draw(st.integers(0, 4))):
            begin = draw(st.integers(0, time))
            row[begin : min(length, begin + draw(st.integers(0, 60)))] = True
    return rows, torch.tensor(lengths)
