"""Models whose encoder has no attention contexts are served as NeMo serves them."""

import pytest
import torch

from nemo.collections.asr import modules
from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

TRANSFORMER = {
    "_target_": "nemo.collections.asr.modules.TransformerEncoder",
    "feat_in": 80,
    "d_model": 32,
    "n_heads": 2,
    "n_layers": 1,
    "drop_rate": 0.0,
    "subsampling_factor": 8,
    "sync_max_audio_length": False,
}
RECURRENT = {
    "_target_": "nemo.collections.asr.modules.RNNEncoder",
    "feat_in": 80,
    "n_layers": 1,
    "d_model": 32,
    "rnn_type": "lstm",
    "subsampling": "stacking",
    "subsampling_factor": 8,
    "proj_size": 16,
    "bidirectional": False,
    "dropout": 0.0,
}


@pytest.fixture(params=[TRANSFORMER, RECURRENT], ids=["transformer", "recurrent"])
def encoder(request) -> dict:
    name = request.param["_target_"].rpartition(".")[2]
    if not hasattr(modules, name):
        pytest.skip(f"this NeMo has no {name} for speech")
    return request.param


@pytest.fixture
def config(tiny_config, training_data, encoder):
    overrides = {"masking.causal": False, "preprocessor.pad_to": 0, "masking.mask_prob": 0.15, "optim.lr": 1.0}
    overrides["optim.sched.warmup_steps"] = 1
    config = tiny_config(overrides)
    config.encoder = encoder
    config.decoder.feat_in = encoder.get("proj_size", encoder["d_model"])
    config.train_ds = training_data(augmented=False)
    config.validation_ds = config.test_ds = training_data(augmented=False, shuffle=False)
    return config


def built(config) -> EncDecDenoiseMaskedTokenPredModel:
    model = EncDecDenoiseMaskedTokenPredModel(config)
    if "TransformerEncoder" in config.encoder._target_:
        model.encoder.requires_grad_(False)  # on a CPU, FlexAttention has no backward pass
    return model


@pytest.mark.slow
def test_training_validation_files_and_resume_work(config, fit, tmp_path):
    model = built(config)
    assert model.attention_context is None and model.current_att_context is None
    run = fit(model, max_steps=2, limit_val_batches=1, limit_test_batches=1, val_check_interval=1)
    assert len(run.losses) == 2 and all(loss > 0 for loss in run.losses)
    losses = [validation["val_loss"] for validation in run.validations]
    assert len(losses) == 2 and losses[0] != losses[1]
    assert not any(name.startswith("val_loss_") for validation in run.validations for name in validation)

    model.trainer.save_checkpoint(tmp_path / "run.ckpt")
    again = fit(built(config), max_steps=3, ckpt_path=tmp_path / "run.ckpt")
    assert len(again.losses) == 1

    model.save_to(str(tmp_path / "model.nemo"))
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "model.nemo"))
    trainer = model.trainer
    restored.setup_multiple_test_data(config.test_ds)
    restored.setup_multiple_validation_data(config.validation_ds)
    (validated,) = trainer.validate(restored, restored._validation_dl, verbose=False)
    assert validated["val_loss"] == pytest.approx(losses[-1], rel=1e-5)
    (tested,) = trainer.test(restored, restored._test_dl, verbose=False)
    assert tested["test_loss"] == pytest.approx(losses[-1], rel=1e-5)


def test_evaluation_masks_the_same_frames_in_every_epoch(config, audio):
    model = EncDecDenoiseMaskedTokenPredModel(config).eval()
    features = model._features(input_signal=audio[0], input_signal_length=audio[1])
    first = model.evaluation_mask(features, batch_idx=3)
    torch.rand(5)  # as training does
    assert torch.equal(first, model.evaluation_mask(features, batch_idx=3)) and first.any()
    assert not torch.equal(first, model.evaluation_mask(features, batch_idx=4))
    with torch.no_grad():
        totals = model.evaluate_contexts(features, first)
    assert totals.contexts == (None,) and totals.has_targets
