"""A model is saved under clean keys whatever is around its encoder, and takes files with and without them."""

import copy

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

WRAPPERS = [torch.compile, checkpoint_wrapper, lambda encoder: torch.compile(checkpoint_wrapper(encoder))]


@pytest.fixture(scope="module")
def plain(tiny_model):
    return tiny_model()


@pytest.fixture(params=WRAPPERS, ids=["compiled", "checkpointed", "both"])
def wrapped(plain, request):
    model = copy.deepcopy(plain)
    model.encoder = request.param(model.encoder)
    return model


def test_keys_and_order_are_those_of_the_bare_model(plain, wrapped):
    assert list(wrapped.state_dict()) == list(plain.state_dict())


def test_a_file_of_a_wrapped_model_restores(plain, wrapped, tmp_path):
    with torch.no_grad():
        next(wrapped.decoder.parameters()).add_(1.0)
    wrapped.save_to(str(tmp_path / "model.nemo"))
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "model.nemo"))
    for name, value in wrapped.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value), name


def test_a_wrapped_model_takes_the_weights_of_a_bare_one_and_refuses_what_does_not_fit(plain, wrapped):
    weights = {name: torch.full_like(value, 0.5) for name, value in plain.state_dict().items()}
    wrapped.load_state_dict(weights)
    assert all((parameter == 0.5).all() for parameter in wrapped.parameters())
    with pytest.raises(RuntimeError, match="Missing key"):
        wrapped.load_state_dict({name: value for name, value in weights.items() if "linear_q" not in name})


def test_a_bare_model_takes_keys_that_an_earlier_version_saved_with_a_wrapper(plain):
    model = copy.deepcopy(plain)
    weights = {
        name.replace("encoder.", "encoder._orig_mod.", 1) if name.startswith("encoder.") else name: value + 1
        for name, value in plain.state_dict().items()
    }
    model.load_state_dict(weights)
    assert torch.equal(model.encoder.layers[0].norm_out.bias, plain.encoder.layers[0].norm_out.bias + 1)
