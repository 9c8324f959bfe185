"""Recipes: a config says what its model says, and contexts are those that the encoder can take."""

import pytest
import torch
from context_examples import SpeechEncoder, parse
from nest_tools.recipe import Recipe
from omegaconf import OmegaConf
from torch import nn

from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS


@pytest.mark.parametrize("position", ["pre_conv", "post_conv"])
def test_a_config_says_what_its_model_says(position, tiny_config, tiny_model, tmp_path):
    changes = {"mask_position": position, "context_presets": {"short": [8, 0]}, "masking.causal_window": "random"}
    file = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create({"model": tiny_config(changes)}), file)
    model = tiny_model(changes)
    from_config, from_model = Recipe.of_config(file), Recipe.of_model(model)
    assert from_config.reach == from_model.reach
    assert from_config.masking == from_model.masking
    assert from_config.presets == from_model.presets
    assert from_config.contexts() == from_model.contexts()
    assert from_config.masking.own_way == "random"
    assert from_config.encoder.d_model < model.encoder.d_model

    lengths = [8, 15, 16, 17, 399, 400]
    signal = torch.zeros(len(lengths), max(lengths), 80)
    pre_encode = getattr(model.encoder.pre_encode, "pre_encode", model.encoder.pre_encode)
    _, encoded = pre_encode(x=signal, lengths=torch.tensor(lengths))
    expected = lengths if position == "pre_conv" else encoded.tolist()
    assert from_config.mask_lengths(lengths).tolist() == expected


def test_contexts_are_the_trained_ones_and_the_presets_that_the_encoder_can_take():
    assert [str(context) for context in Recipe.of_model(SpeechEncoder()).contexts()] == [
        "[3, 0]",
        *(str([*sizes]) for sizes in sorted(CONTEXT_PRESETS.values()) if sizes[0] > 0),
        "[-1, 0]",
    ]
    local = Recipe.of_model(SpeechEncoder(self_attention_model="rel_pos_local_attn", att_context_size=[16, 16]))
    assert parse(-1, 0) not in local.contexts()
    assert set(local.refused_presets()) == {"unlimited"}


def test_a_model_with_another_encoder_is_refused():
    model = SpeechEncoder()
    model.encoder = nn.Linear(8, 8)
    with pytest.raises(TypeError, match="model must have a ConformerEncoder; got a SpeechEncoder with a Linear"):
        Recipe.of_model(model)
