"""The subsampling's numbers are NeMo's, with fewer masks."""

import copy

import pytest
import torch
from torch import nn

from nemo.collections.asr.parts.submodules import subsampling
from nemo.collections.asr.parts.submodules.subsampling import (
    ConvSubsampling,
    MaskedConvSequential,
    NemoMaskedConvSequential,
)

LENGTHS = {
    "none is padded": [83, 83, 83],
    "some are padded": [83, 41, 9],
    "all are padded": [80, 3, 1],
    "one is empty": [83, 0, 20],
}


def make(kind: str = "dw_striding", causal: bool = True) -> ConvSubsampling:
    torch.manual_seed(0)
    return ConvSubsampling(
        subsampling=kind,
        subsampling_factor=8,
        feat_in=16,
        feat_out=12,
        conv_channels=6,
        is_causal=causal,
        activation=nn.ReLU(True),
    )


def features(lengths, seed: int = 0) -> torch.Tensor:
    """`[B, T, D]`, of which the padding is not zero."""
    return torch.randn(len(lengths), 83, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", ["dw_striding", "striding"])
def test_values_lengths_and_gradients_equal_nemos(kind, causal, lengths):
    ours = make(kind, causal)
    theirs = copy.deepcopy(ours)
    assert type(ours.conv) is MaskedConvSequential
    theirs.conv.__class__ = NemoMaskedConvSequential
    results = []
    for module in (ours, theirs):
        x = features(lengths).requires_grad_()
        encoded, encoded_len = module(x, lengths=torch.tensor(lengths))
        weights = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad((encoded * weights).sum(), [x, *module.parameters()])
        results.append((encoded, encoded_len, *gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_the_caller_keeps_its_features():
    x = features([83, 83])
    before = x.clone()
    make()(x, lengths=torch.tensor([83, 83]))
    assert torch.equal(x, before)


@pytest.mark.parametrize(("lengths", "masks"), [([83, 83], 0), ([83, 50], 4)])
def test_masks_are_made_only_where_they_change_something(monkeypatch, lengths, masks):
    made = []
    make_mask = subsampling._valid_frames
    monkeypatch.setattr(subsampling, "_valid_frames", lambda *given: made.append(1) or make_mask(*given))
    make()(features(lengths), lengths=torch.tensor(lengths))
    assert len(made) == masks


def test_an_activation_that_does_not_keep_zeros_is_masked_itself():
    conv = make().conv
    layers = [nn.Sigmoid() if isinstance(layer, nn.ReLU) else layer for layer in conv]
    ours, theirs = MaskedConvSequential(*layers), NemoMaskedConvSequential(*layers)
    x, lengths = features([83, 40]), torch.tensor([83, 40])
    for one, other in zip(ours(x, lengths), theirs(x, lengths), strict=True):
        torch.testing.assert_close(one, other)


def test_a_traced_graph_masks_batches_unlike_the_one_it_was_traced_with():
    conv = make().eval().conv
    traced = torch.jit.trace(conv, (features([83, 83]), torch.tensor([83, 83])), check_trace=False)
    x, lengths = features([83, 83], seed=1), torch.tensor([83, 21])
    torch.testing.assert_close(traced(x, lengths)[0], conv(x, lengths)[0])
    assert not torch.allclose(traced(x, torch.tensor([83, 83]))[0], conv(x, lengths)[0])
