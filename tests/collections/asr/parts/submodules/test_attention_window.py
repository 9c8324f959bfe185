"""Windows against NeMo's masks, and blocks of queries against the window frame by frame."""

import pytest
import torch
from attention_cases import HAS_RC, Case, attention_cases, nemo_mask
from hypothesis import given, settings

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow


def visible(window: AttentionWindow, frames: int) -> torch.Tensor:
    """`[frames, frames]`, frame by frame."""
    left, chunk, right = window
    sees = torch.zeros(frames, frames, dtype=torch.bool)
    for query in range(frames):
        start = query // chunk * chunk
        for key in range(frames):
            after_left = left < 0 or key >= start - left
            before_right = right < 0 or key < start + chunk + right
            sees[query, key] = after_left and before_right
    return sees


@settings(deadline=None, max_examples=80)
@given(attention_cases())
def test_a_window_is_nemos_mask(case: Case):
    case = case._replace(frames=min(case.frames, 33))
    full = torch.tensor([case.frames])
    theirs = ~nemo_mask(case.style, case.context, full, case.frames)[0]
    assert torch.equal(visible(case.window, case.frames), theirs)
    assert torch.equal(visible(case.window.within(case.frames), case.frames), theirs)
    assert not case.window.sees_all(case.frames) or theirs.all()


@settings(deadline=None, max_examples=80)
@given(attention_cases())
def test_blocks_hold_all_visible_pairs_and_positions_once(case: Case):
    case = case._replace(frames=min(case.frames, 33))
    size, sees = case.size or case.window.block_size(10), visible(case.window, case.frames)
    rows = case.window.positions(case.frames)
    covered, pairs = torch.zeros_like(sees), 0
    for block in case.window.blocks(case.frames, size):
        pairs += block.queries * block.keys
        assert 0 < block.queries <= size and block.column >= 0
        covered[block.first_query : block.end_query, block.first_key : block.end_key] = True
        for query in range(block.queries):
            for key in range(block.keys):
                row = key - query + block.column
                if sees[block.first_query + query, block.first_key + key]:
                    assert 0 <= row < block.positions
                    difference = block.first_query + query - block.first_key - key
                    assert rows.start + block.first_position + row == case.frames - 1 - difference
    assert not (sees & ~covered).any()
    assert pairs <= case.window.pairs(case.frames, size)
    assert 0 <= rows.start < rows.stop <= 2 * case.frames - 1


def test_the_cost_of_a_limited_window_is_linear_in_the_frames():
    window = AttentionWindow(80, 1, 0)
    assert window.pairs(7500, 64) < 10.5 * window.pairs(750, 64)
    assert AttentionWindow(-1, 1, 0).pairs(6400, 64) < 0.51 * 6400**2


@pytest.mark.skipif(not HAS_RC, reason="the installed NeMo has no style chunked_limited_with_rc")
def test_unlimited_chunks_with_right_context_see_all():
    assert AttentionWindow.of_context([-1, -1, -1], "chunked_limited_with_rc").sees_all(50)
