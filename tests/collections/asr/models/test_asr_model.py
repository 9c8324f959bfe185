"""NeMo's own ASR models draw their contexts as pretraining does, once `model.context_seed` is set."""

import math

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo.collections.asr.models import EncDecCTCModel, EncDecRNNTModel
from nemo.collections.asr.parts.attention_context import ContextSampler
from nemo.collections.asr.parts.attention_context.callback import ContextSampling
from nemo.collections.asr.parts.utils.streaming_utils import set_dynamic_context

LABELS = [" ", "a", "b"]
SMALL = {"encoder.n_layers": 1, "encoder.d_model": 16, "encoder.n_heads": 2, "encoder.subsampling_conv_channels": 4}
CONTEXTS = [[8, 0], [16, 0], [-1, 0]]


@pytest.fixture(scope="module")
def asr_config(tiny_config, training_data):
    """Config of a tiny CTC model; keyword arguments are added to it."""

    def make(**options) -> DictConfig:
        nest = tiny_config(SMALL)
        data = {key: training_data()[key] for key in ("manifest_filepath", "sample_rate", "batch_size", "num_workers")}
        return OmegaConf.create(
            {
                "sample_rate": 16000,
                "labels": LABELS,
                "preprocessor": nest.preprocessor,
                "spec_augment": nest.spec_augment,
                "encoder": nest.encoder,
                "decoder": {
                    "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
                    "feat_in": 16,
                    "num_classes": len(LABELS),
                    "vocabulary": LABELS,
                },
                "optim": {"name": "adamw", "lr": 1e-3},
                "train_ds": {**data, "labels": LABELS, "shuffle": True},
                **options,
            }
        )

    return make


@pytest.fixture(scope="module")
def transducer_config(asr_config):
    """Config of a tiny transducer."""
    return asr_config(
        context_seed=3,
        model_defaults={"enc_hidden": 16, "pred_hidden": 8, "joint_hidden": 8},
        decoder={
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "prednet": {"pred_hidden": 8, "pred_rnn_layers": 1},
        },
        joint={
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "fuse_loss_wer": False,
            "jointnet": {"joint_hidden": 8, "activation": "relu", "encoder_hidden": 16, "pred_hidden": 8},
        },
        decoding={"strategy": "greedy", "greedy": {"max_symbols": 2}},
        loss={"loss_name": "pytorch"},
    )


def attended(model) -> list[int]:
    """Fills, in each training forward, with the left context that the first layer's attention mask has."""
    lefts = []

    def look(module, args, kwargs):
        frames = kwargs["att_mask"].shape[-1]
        seen = int((~kwargs["att_mask"]).sum(-1).max())
        lefts.append(-1 if seen == frames else seen - 1)

    model.encoder.layers[0].register_forward_pre_hook(look, with_kwargs=True)
    return lefts


def sampled(seed: int, first: int, last: int) -> list[list[int]]:
    sampler = ContextSampler(CONTEXTS, seed=seed)
    return [sampler.at(count).as_list() for count in range(first, last)]


def test_ctc_training_samples_by_seed_and_count_and_goes_on_after_a_resume(asr_config, fit, tmp_path):
    model = EncDecCTCModel(asr_config(context_seed=3))
    lefts = attended(model)
    every_second = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1)
    run = fit(model, [every_second], max_steps=3, enable_checkpointing=True)
    assert run.contexts == sampled(3, 0, 3) and len({tuple(context) for context in run.contexts}) == 3
    assert lefts == [left for left, _ in run.contexts]
    assert model.encoder.context.of_attention([5, 0]) == [5, 0]  # NeMo's own choice, once training has ended

    again = fit(EncDecCTCModel(asr_config(context_seed=3)), max_steps=6, ckpt_path=next(tmp_path.glob("*.ckpt")))
    assert again.contexts == sampled(3, 2, 6)


@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_an_asr_model_starts_from_a_pretrained_encoder_and_trains(
    mask_position, tiny_model, asr_config, fit, tmp_path
):
    nest = tiny_model({**SMALL, "mask_position": mask_position}, seed=5)
    nest.save_to(str(tmp_path / "nest.nemo"))
    model = EncDecCTCModel(asr_config(context_seed=3))
    part = {"path": str(tmp_path / "nest.nemo"), "include": ["preprocessor", "encoder"]}
    model.maybe_init_from_pretrained_checkpoint(OmegaConf.create({"init_from_nemo_model": {"nest": part}}))
    pretrained, started = nest.encoder.state_dict(), model.encoder.state_dict()
    # Masking after the convolutions wraps the subsampling.
    pretrained = {name.replace("pre_encode.pre_encode.", "pre_encode."): value for name, value in pretrained.items()}
    assert all(torch.equal(value, pretrained[name]) for name, value in started.items())
    run = fit(model, max_steps=2)
    assert run.contexts == sampled(3, 0, 2) and all(math.isfinite(loss) for loss in run.losses)
    assert any(not torch.equal(value, pretrained[name]) for name, value in model.encoder.state_dict().items())


def test_a_transducer_draws_too(transducer_config, fit):
    model = EncDecRNNTModel(transducer_config)
    lefts = attended(model)
    run = fit(model, max_steps=3)
    assert run.contexts == sampled(3, 0, 3)
    assert lefts == [left for left, _ in run.contexts]


def test_a_pin_overrides_the_draws(asr_config, fit):
    model = EncDecCTCModel(asr_config(context_seed=3))
    set_dynamic_context(model, [16, 0])
    lefts = attended(model)
    assert fit(model, max_steps=2).contexts == [[16, 0]] * 2
    assert lefts == [16, 16]


def test_it_is_off_by_default_and_for_a_single_context(asr_config):
    model = EncDecCTCModel(asr_config())
    assert model.configure_callbacks() == []
    with open_dict(model.cfg):
        model.cfg.context_seed = 0
    assert [type(callback) for callback in model.configure_callbacks()] == [ContextSampling]
    model.encoder.att_context_size_all = [[8, 0]]
    assert model.configure_callbacks() == []


def test_a_seed_or_an_encoder_that_cannot_work_is_named(asr_config):
    model = EncDecCTCModel(asr_config(context_seed="later"))
    with pytest.raises(TypeError, match="model.context_seed must be a whole number.*got 'later'"):
        model.configure_callbacks()
    model.cfg.context_seed = 1
    model.encoder = model.decoder
    with pytest.raises(TypeError, match="the model's encoder is ConvASRDecoder"):
        model.configure_callbacks()


def test_an_asr_model_with_a_compiled_encoder_is_saved_under_clean_keys(asr_config, tmp_path):
    model = EncDecCTCModel(asr_config())
    keys = list(model.state_dict())
    model.encoder = torch.compile(model.encoder)
    model.save_to(str(tmp_path / "asr.nemo"))
    restored = EncDecCTCModel.restore_from(str(tmp_path / "asr.nemo"))
    assert list(model.state_dict()) == keys == list(restored.state_dict())
