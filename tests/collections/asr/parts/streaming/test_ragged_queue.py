"""A ragged queue gives each row what was put into it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo.collections.asr.parts.streaming.ragged_queue import RaggedQueue


@settings(max_examples=50, deadline=None)
@given(data=st.data(), lead=st.integers(0, 3), rows=st.integers(1, 3))
def test_each_row_is_a_list(data, lead, rows):
    """Against a list for each row."""
    queue, lists = RaggedQueue(rows, item_shape=(2,), lead=lead), [[0.0] * lead for _ in range(rows)]
    sizes = st.lists(st.integers(0, 4), min_size=rows, max_size=rows)
    value = 0.0
    for _ in range(data.draw(st.integers(1, 6))):
        lengths = np.array(data.draw(sizes))
        items = torch.arange(value, value + rows * 4).reshape(rows, 4, 1).expand(-1, -1, 2)
        value += rows * 4
        queue.append(items, lengths)
        for row, length, new in zip(lists, lengths, items, strict=True):
            row += new[:length, 0].tolist()
        taken = np.minimum(data.draw(sizes), queue.counts)
        queue.drop(taken)
        lists = [row[count:] for row, count in zip(lists, taken, strict=True)]
        if data.draw(st.booleans()):
            cleared = data.draw(st.integers(0, rows - 1))
            queue.clear(np.array([cleared]))
            lists[cleared] = [0.0] * lead
        assert queue.counts.tolist() == [len(row) for row in lists]
        window = queue.window(5)
        assert window.shape == (rows, 5, 2)
        assert torch.equal(window[..., 0], window[..., 1])
        assert [window[i, : len(row), 0].tolist() for i, row in enumerate(lists)] == [row[:5] for row in lists]
        chosen = np.array([rows - 1])
        assert queue.window(3, chosen)[0, : len(lists[-1]), 0].tolist() == lists[-1][:3]


def test_the_callers_items_may_be_overwritten():
    queue, items = RaggedQueue(batch_size=2), torch.ones(2, 3)
    queue.append(items, np.array([3, 2]))
    items.zero_()
    assert queue.window(2).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_those_of_all_rows(dtype):
    queue = RaggedQueue(batch_size=2, item_shape=(5,), lead=3, dtype=dtype)
    assert queue.nbytes == 2 * 3 * 5 * dtype.itemsize
    queue.append(torch.zeros(2, 4, 5, dtype=dtype), np.array([4, 1]))
    assert queue.nbytes == 2 * 7 * 5 * dtype.itemsize
