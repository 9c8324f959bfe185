"""Attention in blocks by `scaled_dot_product_attention` against the operator for CPUs."""

import pytest
import torch
from attention_cases import Case, attention_cases
from hypothesis import given, settings

from nemo.collections.asr.parts.submodules.blockwise_attention_op import attend_on_cpu
from nemo.collections.asr.parts.submodules.blockwise_attention_sdpa import attend_with_sdpa

HEADS, CHANNELS = 2, 4


def outputs_and_gradients(attend, tensors, *arguments, size) -> list[torch.Tensor]:
    output = attend(*tensors, *arguments, size=size)
    return [output, *torch.autograd.grad(output, tensors, torch.ones_like(output) * torch.arange(CHANNELS))]


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(attention_cases())
def test_outputs_and_gradients_are_those_of_the_operator(case: Case):
    lengths, positions = torch.tensor(case.lengths), case.window.positions(case.frames)
    shapes = 4 * [(len(lengths) * HEADS, case.frames)] + [(HEADS, positions.stop - positions.start)]
    tensors = [torch.randn(*shape, CHANNELS, dtype=torch.float64, requires_grad=True) for shape in shapes]
    ours = outputs_and_gradients(attend_with_sdpa, tensors, lengths, case.window, size=case.size)
    for one, other in zip(
        ours, outputs_and_gradients(attend_on_cpu, tensors, lengths, case.window, size=None), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("context", [[5, 0], [-1, 0]])
def test_no_value_is_read_on_the_host(context):
    """On the meta device a tensor has no values to read."""
    case = Case("regular", context, 1100, [1100, 3], None)
    positions = case.window.positions(1100)
    rows = [torch.empty(2 * HEADS, 1100, CHANNELS, device="meta") for _ in range(4)]
    position = torch.empty(HEADS, positions.stop - positions.start, CHANNELS, device="meta")
    lengths = torch.empty(2, dtype=torch.long, device="meta")
    assert attend_with_sdpa(*rows, position, lengths, case.window).shape == rows[0].shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("context", [[5, 0], [80, 3], [-1, 0]])
def test_a_gpu_gives_what_a_cpu_gives(context):
    case = Case("regular", context, 700, [700, 300], None)
    positions = case.window.positions(700)
    shapes = 4 * [(2 * HEADS, 700)] + [(HEADS, positions.stop - positions.start)]
    tensors = [torch.randn(*shape, 16, requires_grad=True) for shape in shapes]
    lengths = torch.tensor(case.lengths)
    expected = attend_on_cpu(*tensors, lengths, case.window)
    ours = attend_with_sdpa(*(tensor.cuda() for tensor in tensors), lengths.cuda(), case.window)
    torch.testing.assert_close(ours.cpu(), expected, rtol=0, atol=1e-3)
