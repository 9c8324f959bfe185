"""Models survive files, copies and pickles, and start from other models."""

import copy
import pickle

import pytest
import torch
from omegaconf import OmegaConf

from nemo.collections.asr.parts.utils.streaming_utils import set_dynamic_context
from nemo.utils import logging


@pytest.mark.slow
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
@pytest.mark.parametrize("denoise", [True, False])
def test_a_model_survives_its_file_a_copy_and_a_pickle(tiny_model, audio, tmp_path, mask_position, denoise):
    model = tiny_model({"mask_position": mask_position, "context_presets": {"hall": [12, 0]}}, denoise=denoise).eval()
    path = str(tmp_path / "model.nemo")
    model.save_to(path)
    restored = type(model).restore_from(path)
    assert restored.training
    set_dynamic_context(restored, "hall")
    set_dynamic_context(model, "hall")
    expected = model.forward(*audio)
    for twin in (restored.eval(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for ours, theirs in zip(twin.forward(*audio), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert type(restored).__module__ == "nemo.collections.asr.models.ssl_models"


def test_state_dict_keys_are_nemos(tiny_model):
    keys = {name.split(".")[0] for name in tiny_model().state_dict()}
    assert keys == {"preprocessor", "quantizer", "mask_processor", "encoder", "decoder"}
    assert not [key for key in tiny_model().state_dict() if "context" in key or "count" in key]


def test_a_streaming_model_starts_from_an_offline_one_and_says_what_fitted(tiny_model, tmp_path, caplog):
    offline = {
        "encoder.causal_downsampling": False,
        "encoder.conv_norm_type": "batch_norm",
        "encoder.conv_context_size": None,
        "encoder.att_context_size": [-1, -1],
        "masking.causal": False,
        "num_classes": 16,
    }
    other = tiny_model(offline, seed=1)
    other.save_to(str(tmp_path / "offline.nemo"))
    model = tiny_model(seed=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logger = logging._logger
    logger.addHandler(caplog.handler)
    try:
        model.maybe_init_from_pretrained_checkpoint(
            OmegaConf.create({"init_from_nemo_model": str(tmp_path / "offline.nemo")})
        )
    finally:
        logger.removeHandler(caplog.handler)

    theirs, ours = other.state_dict(), model.state_dict()
    misfits = [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    assert misfits
    for name, value in ours.items():
        loaded = name in theirs and name not in misfits
        assert torch.equal(value, theirs[name] if loaded else before[name]), name
    text = caplog.text
    assert f"Loaded {len(ours) - len(misfits)} of {len(ours)} tensors" in text
    assert all(name.split(".")[-1] in text for name in misfits)
    assert "not in this model: encoder.layers.*.conv.batch_norm.running_mean (2 of them)" in text
