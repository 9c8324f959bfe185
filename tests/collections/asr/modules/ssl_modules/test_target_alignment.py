"""A token is predicted by the first encoder frame that has seen all of it, as gradients show."""

import pytest
import torch
from torch import nn

from nemo.collections.asr.modules.ssl_modules.target_alignment import (
    resolve_target_shift,
    subsampling_right_edge,
    subsampling_target_shift,
)
from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling, StackingSubsampling

FRAMES = 64


def striding(kind="dw_striding", factor=8, causal=False):
    torch.manual_seed(0)
    # Without an activation that may be zero everywhere, gradients show all that is seen.
    return ConvSubsampling(kind, factor, 4, 5, 6, activation=nn.Identity(), is_causal=causal).double()


def last_frame_seen(pre_encode, frame):
    """The last feature frame on which the output at an encoder frame depends."""
    x = torch.randn(1, FRAMES, 4, dtype=torch.float64, requires_grad=True)
    encoded, _ = pre_encode(x, torch.tensor([FRAMES]))
    (gradient,) = torch.autograd.grad(encoded[0, frame].square().sum(), x)
    return int(gradient[0].abs().sum(1).nonzero().max())


SUBSAMPLINGS = {
    "dw_striding 8": lambda: striding(),
    "dw_striding 8, causal": lambda: striding(causal=True),
    "dw_striding 4, causal": lambda: striding(factor=4, causal=True),
    "striding 4": lambda: striding("striding", 4),
    "striding 8, causal": lambda: striding("striding", causal=True),
    "stacking 8": lambda: StackingSubsampling(8, 4, 5).double(),
}


@pytest.mark.parametrize("name", SUBSAMPLINGS)
def test_the_right_edge_is_where_gradients_end(name):
    pre_encode, factor = SUBSAMPLINGS[name](), 4 if " 4" in name else 8
    edge = subsampling_right_edge(pre_encode)
    for frame in (0, 1, 3):
        assert last_frame_seen(pre_encode, frame) == frame * factor + edge


@pytest.mark.parametrize("name", SUBSAMPLINGS)
def test_the_shift_is_the_smallest_at_which_a_token_has_been_seen(name):
    pre_encode, factor = SUBSAMPLINGS[name](), 4 if " 4" in name else 8
    token, end_of_token = 2, 3 * factor - 1
    shift = subsampling_target_shift(pre_encode, factor)
    assert last_frame_seen(pre_encode, token + shift) >= end_of_token
    assert shift == 0 or last_frame_seen(pre_encode, token + shift - 1) < end_of_token
    assert shift == int("causal" in name)


def test_without_subsampling_a_frame_sees_itself():
    assert subsampling_right_edge(nn.Linear(4, 5)) == 0 and subsampling_target_shift(nn.Linear(4, 5), 1) == 0


def test_a_config_takes_the_derived_shift_or_gives_its_own():
    pre_encode = striding(causal=True)
    assert [resolve_target_shift(value, pre_encode, 8) for value in ("auto", 0, 3)] == [1, 0, 3]


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), ("later", TypeError), (True, TypeError), (1.0, TypeError)]
)
def test_another_shift_is_refused(value, error):
    with pytest.raises(error, match="model.target_shift must be 'auto' or a whole number >= 0; got"):
        resolve_target_shift(value, striding(), 8)


def test_a_subsampling_of_unknown_alignment_is_refused():
    message = (
        "encoder.subsampling must be one of 'striding', 'dw_striding', 'stacking', 'stacking_norm'; got 'Identity'"
    )
    for call in (subsampling_right_edge, lambda module: resolve_target_shift(0, module, 8)):
        with pytest.raises(ValueError, match=message):
            call(nn.Identity())
