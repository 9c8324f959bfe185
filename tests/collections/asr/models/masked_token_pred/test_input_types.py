"""The typed names of the forward's arguments."""

import inspect

import pytest

from nemo.collections.asr.models import ssl_models


@pytest.mark.parametrize("denoise", [True, False])
def test_every_argument_of_the_forward_is_typed(tiny_model, denoise):
    model = tiny_model(denoise=denoise)
    arguments = set(inspect.signature(model.forward).parameters)
    assert arguments <= set(model.input_types)
    theirs = ssl_models.NemoEncDecDenoiseMaskedTokenPredModel if denoise else ssl_models.NemoEncDecMaskedTokenPredModel
    assert set(theirs.input_types.fget(model)) <= set(model.input_types)
