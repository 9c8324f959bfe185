"""Pretraining models in which masking and attention share one context: building, forward, configs."""

import itertools

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf, open_dict
from pretraining_batches import DENSE, loss_of

from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel, EncDecMaskedTokenPredModel


@pytest.mark.slow
@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
@pytest.mark.parametrize(("pad_to", "causal"), itertools.product([0, 16], [True, False]))
def test_every_combination_trains_on_any_length(tiny_model, audio, denoise, mask_position, pad_to, causal):
    """Of these, NeMo trains one: pad_to 16, no causal subsampling, masking before the convolutions."""
    model = tiny_model(
        {
            **DENSE,
            "mask_position": mask_position,
            "preprocessor.pad_to": pad_to,
            "encoder.causal_downsampling": causal,
        },
        denoise=denoise,
    ).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    signal, lengths = audio
    for samples in (64000, 63999, 64160, 41613):
        loss = loss_of(model, signal[:, :samples], lengths.clamp(max=samples))
        assert loss.isfinite() and loss > 0
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []


def test_evaluation_uses_the_context_that_was_set_by_hand(tiny_model, audio):
    model = tiny_model(DENSE).eval()
    outputs = {}
    for left in (8, 16):
        model.encoder.att_context_size = [left, 0]
        outputs[left], *_ = model.forward(*audio, apply_mask=False)
        assert model.current_att_context == [left, 0]
    assert (outputs[8] - outputs[16]).abs().max() > 1e-4


def test_an_unmasked_forward_in_training_mode_warns_once(tiny_model, audio, warnings):
    model = tiny_model().train()
    warnings.clear()
    for _ in range(3):
        model.forward(*audio, apply_mask=False)
    assert len(warnings) == 1 and "model.eval()" in warnings[0]
    model.eval().forward(*audio, apply_mask=False)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"encoder.reduction": "pooling", "encoder.reduction_position": 0, "encoder.reduction_factor": 2},
            "encoder.reduction",
        ),
        ({"encoder.subsampling": "vggnet"}, "encoder.subsampling must be one of .*got 'vggnet'"),
        ({"encoder.subsampling": "striding_conv1d"}, "encoder.subsampling must be one of .*got 'striding_conv1d'"),
        (
            {"encoder.att_context_size": [[0, 0], [8, 0]]},
            r"att_context_size must .*left contexts above 0.*got \[0, 0\]",
        ),
        ({"encoder.att_context_probs": [0.5, 0.2, 0.2]}, "encoder.att_context_probs.*sums to 0.9"),
        ({"encoder.att_context_probs": [0.5, 0.5]}, r"att_context_probs must have 3 entries.*got \[0.5, 0.5\]"),
        ({"encoder.att_context_size": []}, "encoder.att_context_size must .*empty"),
        (
            {"encoder.att_context_style": "chunked_limited", "encoder.att_context_size": [[70, 13], [71, 6]]},
            r"encoder.att_context_size must .*got \[71, 6\]",
        ),
        ({"encoder.self_attention_model": "rel_pos_local_attn"}, "local attention"),
        ({"mask_position": "behind"}, "model.mask_position must be one of 'pre_conv', 'post_conv'; got 'behind'"),
        ({"mask_position": "post_conv", "masking.block_size": 5}, "masking.block_size must be at least .*got 5"),
    ],
)
def test_configs_that_cannot_work_are_refused_when_the_model_is_built(tiny_model, overrides, message):
    with pytest.raises((ValueError, InstantiationException), match=message):
        tiny_model(overrides)


def test_probabilities_that_sum_to_one_but_for_rounding_are_taken(tiny_model):
    contexts = [[left, 0] for left in range(8, 88, 8)]
    model = tiny_model({"encoder.att_context_size": contexts, "encoder.att_context_probs": [0.1] * 10})
    assert len(model.context_sampler.contexts) == 10


def test_a_recipe_of_nemos_without_our_keys_builds_and_trains(tiny_config, audio):
    """NeMo's offline NEST recipe: no causal masking, unlimited context, none of this project's keys."""
    cfg = tiny_config({"encoder.att_context_size": [-1, -1], "encoder.causal_downsampling": False})
    with open_dict(cfg):
        for section, keys in {
            "masking": ["causal", "left_context_size", "causal_window", "max_mask_ratio"],
            "quantizer": ["normalize"],
        }.items():
            for key in keys:
                del cfg[section][key]
        del cfg["target_shift"], cfg["context_seed"]
        cfg.preprocessor.update(normalize="per_feature", pad_to=16)
        cfg.encoder.update(conv_norm_type="batch_norm", conv_context_size=None)
        cfg.masking.mask_prob = 0.15
    model = EncDecDenoiseMaskedTokenPredModel(OmegaConf.create(OmegaConf.to_container(cfg))).train()
    assert model.target_shift == 0 and not model.mask_processor.causal
    assert loss_of(model, *audio).isfinite()
    assert model.current_att_context == [-1, -1]


def test_both_classes_are_still_nemos_kin(tiny_model):
    assert isinstance(tiny_model(), EncDecMaskedTokenPredModel)
    assert not isinstance(tiny_model(denoise=False), EncDecDenoiseMaskedTokenPredModel)
