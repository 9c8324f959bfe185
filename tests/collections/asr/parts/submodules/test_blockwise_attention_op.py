"""The operator of attention in blocks: what PyTorch asks of an operator, and exact gradients."""

import torch
from attention_cases import Case, attention_cases
from hypothesis import given, settings

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow
from nemo.collections.asr.parts.submodules.blockwise_attention_op import _attend, attend_on_cpu

HEADS, CHANNELS = 2, 3


def arguments(window: AttentionWindow, frames: int, batch: int = 1, dtype=torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(0)
    rows = [torch.randn(batch * HEADS, frames, CHANNELS, dtype=dtype, requires_grad=True) for _ in range(4)]
    positions = window.positions(frames)
    position = torch.randn(HEADS, positions.stop - positions.start, CHANNELS, dtype=dtype, requires_grad=True)
    return [*rows, position]


def attended_pair_by_pair(q_u, q_v, key, value, position, lengths, window: AttentionWindow) -> torch.Tensor:
    """The definition, one query at a time."""
    rows, frames, _ = q_u.shape
    first_row = window.positions(frames).start
    left, chunk, right = window.within(frames)
    output = torch.zeros_like(value)
    for row in range(rows):
        length = int(lengths[row // HEADS])
        for query in range(length):
            start = query // chunk * chunk
            keys = torch.arange(max(start - left, 0), min(start + chunk + right, length))
            places = position[row % HEADS, frames - 1 - query + keys - first_row]
            scores = key[row, keys] @ q_u[row, query] + places @ q_v[row, query]
            output[row, query] = torch.softmax(scores, dim=0) @ value[row, keys]
    return output


@settings(deadline=None, max_examples=40)
@given(attention_cases())
def test_attention_is_that_of_its_definition(case: Case):
    frames, lengths = min(case.frames, 65), torch.tensor(case.lengths).clamp(max=65)
    tensors = arguments(case.window, frames, len(lengths))
    with torch.no_grad():
        ours = attend_on_cpu(*tensors, lengths, case.window, size=case.size)
        theirs = attended_pair_by_pair(*tensors, lengths, case.window)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    for window in (AttentionWindow(3, 1, 0), AttentionWindow(-1, 1, 1), AttentionWindow(4, 2, 1)):
        rest = (torch.tensor([7, 4]), window, 0.0, 3)
        assert torch.autograd.gradcheck(lambda *x, rest=rest: attend_on_cpu(*x, *rest), arguments(window, 7, batch=2))


def test_the_operator_is_one_that_torch_compile_and_autograd_can_use():
    window = AttentionWindow(3, 1, 0)
    kept = torch.rand(2 * HEADS * window.pairs(9, 4)) > 0.2
    for frames, mask in ((9, None), (9, kept), (2, None)):
        tensors, lengths = arguments(window, frames, batch=2, dtype=torch.float32), torch.tensor([frames, 1])
        torch.library.opcheck(_attend, (*tensors, lengths, mask, list(window), 4, 1.25, True))


def test_nothing_is_kept_for_a_backward_pass_that_cannot_come():
    window = AttentionWindow(3, 1, 0)
    tensors = [tensor.detach() for tensor in arguments(window, 20)]
    output, weights = _attend(*tensors, torch.tensor([20]), None, list(window), 8, 1.0, False)
    assert weights.numel() == 0 and output.shape == tensors[3].shape
    assert torch.equal(output, attend_on_cpu(*tensors, torch.tensor([20]), window, size=8))
