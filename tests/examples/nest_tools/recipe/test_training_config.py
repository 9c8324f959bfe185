"""Training configs: their modules are built in the units of training, or refused with a reason."""

from pathlib import Path

import pytest
from nest_tools.recipe.training_config import masks_after_convolutions, parts_of_config, read_config
from omegaconf import OmegaConf

CONFIGS = Path(__file__).resolve().parents[4] / "examples/asr/conf/ssl/nest"
SHIPPED = CONFIGS / "nest_fast-conformer_streaming_dynamic.yaml"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, FileNotFoundError, r"--config must be a training config \(\.yaml\); got .*, which does not exist"),
        ("model: [1\n", ValueError, r"config\.yaml, which cannot be read"),
        ("model: {encoder: {n_layers: 2}}\n", ValueError, r"model\.preprocessor\._target_ must be a .*; got None in"),
    ],
)
def test_what_is_no_training_config_is_refused(text, error, message, tmp_path):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(error, match=message):
        parts_of_config(tmp_path / "config.yaml")


def test_a_config_that_its_modules_refuse_is_named_with_the_reason(tmp_path):
    config = OmegaConf.load(SHIPPED)
    config.model.encoder.att_context_probs = [0.5, 0.5]
    OmegaConf.save(config, tmp_path / "refused.yaml")
    with pytest.raises(ValueError, match=r"refused\.yaml: encoder\.att_context_probs must have 4 entries"):
        parts_of_config(tmp_path / "refused.yaml")


def test_another_ending_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"--config must be a training config \(\.yaml\); got .*config\.json"):
        read_config(tmp_path / "config.json")


def test_blocks_are_counted_in_the_frames_that_are_masked(tmp_path):
    config = OmegaConf.load(SHIPPED)
    before = parts_of_config(SHIPPED)
    config.model.mask_position = "post_conv"
    OmegaConf.save(config, tmp_path / "after.yaml")
    after = parts_of_config(tmp_path / "after.yaml")
    assert [masks_after_convolutions(parts.cfg) for parts in (before, after)] == [False, True]
    assert before.masking.block_size == 8 * after.masking.block_size
    assert (before.masking.subsampling_factor, after.masking.subsampling_factor) == (8, 1)


def test_a_config_without_masking_has_none(tmp_path):
    config = OmegaConf.load(SHIPPED)
    config.model.masking = None
    OmegaConf.save(config, tmp_path / "plain.yaml")
    assert parts_of_config(tmp_path / "plain.yaml").masking is None
