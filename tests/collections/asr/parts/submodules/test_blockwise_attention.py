"""Attention in blocks inside NeMo's module: outputs, gradients, dropout, autocast, half precision."""

import pytest
import torch
from attention_cases import CHANNELS, Case, attention_cases, attention_module, nemo_mask, position_embeddings
from hypothesis import given, settings

from nemo.collections.asr.parts.submodules import blockwise_attention
from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow
from nemo.collections.asr.parts.submodules.blockwise_attention import BlockwiseMask
from nemo.collections.asr.parts.submodules.blockwise_attention_sdpa import attend_with_sdpa


def masks(case: Case) -> tuple[torch.Tensor, BlockwiseMask]:
    lengths = torch.tensor(case.lengths)
    return nemo_mask(case.style, case.context, lengths, case.frames), BlockwiseMask(case.window, lengths)


def outputs_and_gradients(module, x, mask, grad) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    output = module(x, x, x, mask, position_embeddings(x.shape[1]).to(x.dtype))
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [output, *torch.autograd.grad(output, [x, *parameters], grad.to(output.dtype))]


def assert_nemos(case: Case, module, tolerance: float = 1e-5) -> None:
    theirs, ours = masks(case)
    shape = (len(case.lengths), case.frames, CHANNELS)
    x, grad = torch.randn(shape), torch.randn(shape) / case.frames**0.5
    expected = outputs_and_gradients(module, x, theirs, grad)
    for one, other in zip(outputs_and_gradients(module, x, ours, grad), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(attention_cases())
def test_outputs_and_gradients_are_nemos(case: Case):
    assert_nemos(case, attention_module())


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(case=attention_cases())
def test_outputs_and_gradients_of_the_accelerators_path_are_nemos(case: Case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise_attention, "attend_on_cpu", attend_with_sdpa)
        assert_nemos(case, attention_module())


def test_modules_without_biases_and_with_nemos_sdpa_agree_too():
    case = Case("regular", [20, 3], 130, [130, 77, 0], None)
    assert_nemos(case, attention_module(use_bias=False))
    assert_nemos(case, attention_module(use_pytorch_sdpa=True))


@pytest.mark.parametrize("frames", [1, 64, 65, 200])
def test_what_autocast_rounds_differs_from_float32_no_more_than_nemos(frames):
    module, x = attention_module(), torch.randn(2, frames, CHANNELS)
    theirs, ours = masks(Case("regular", [20, 0], frames, [frames, frames // 2], None))
    exact = module(x, x, x, theirs, position_embeddings(frames))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = [module(x, x, x, mask, position_embeddings(frames)) for mask in (theirs, ours)]
    assert rounded[0].dtype == rounded[1].dtype
    torch.testing.assert_close(rounded[1], rounded[0], rtol=0.02, atol=0.02)
    errors = [(output - exact).abs().mean() for output in rounded]
    assert errors[1] <= 1.05 * errors[0]


def test_a_module_in_bfloat16_gives_bfloat16_within_its_rounding():
    module, x = attention_module().bfloat16(), torch.randn(2, 130, CHANNELS).bfloat16()
    case = Case("regular", [20, 0], 130, [130, 40], None)
    theirs, ours = (outputs_and_gradients(module, x, mask, torch.ones(2, 130, CHANNELS) / 130) for mask in masks(case))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("sdpa", [False, True])
def test_dropout_has_the_mean_and_variance_of_nemos(sdpa, monkeypatch):
    """Over many masks; in evaluation nothing is dropped."""
    if sdpa:
        monkeypatch.setattr(blockwise_attention, "attend_on_cpu", attend_with_sdpa)
    module, x = attention_module(dropout=0.3), torch.randn(1, 40, CHANNELS)
    theirs, ours = masks(Case("regular", [12, 0], 40, [40], 16))
    position = position_embeddings(40)
    with torch.no_grad():
        samples = {
            name: torch.cat([module(x, x, x, mask, position) for _ in range(3000)])
            for name, mask in (("theirs", theirs), ("ours", ours))
        }
        whole = module.eval()(x, x, x, ours, position)[0]
    torch.testing.assert_close(samples["ours"].mean(0), whole, rtol=0, atol=0.05)
    torch.testing.assert_close(samples["ours"].std(0), samples["theirs"].std(0), rtol=0.12, atol=0.01)
    torch.testing.assert_close(whole, module(x, x, x, theirs, position)[0], rtol=0, atol=1e-5)


def test_dropout_repeats_from_torchs_generator():
    module, x = attention_module(dropout=0.5), torch.randn(2, 70, CHANNELS)
    mask = BlockwiseMask(AttentionWindow(9, 1, 0), torch.tensor([70, 30]))
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(module(x, x, x, mask, position_embeddings(70)))
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("left", [9, -1])
def test_attention_runs_on_the_meta_device_without_reading_values(left):
    module = attention_module(dropout=0.1).to("meta")
    x = torch.empty(2, 300, CHANNELS, device="meta", requires_grad=True)
    mask = BlockwiseMask(AttentionWindow(left, 1, 0), torch.empty(2, dtype=torch.long, device="meta"))
    output = module(x, x, x, mask, torch.empty(1, 599, CHANNELS, device="meta"))
    output.sum().backward()
    assert output.shape == x.shape and x.grad.shape == x.shape
