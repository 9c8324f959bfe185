"""A file of fitted targets goes into the tokenizer that it was fitted for, and into no other."""

import pytest
import torch

from nemo.collections.asr.modules.ssl_modules.fitted_targets import FittedTargets
from nemo.collections.asr.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer

SIZES = dict(feat_in=4, code_dim=3, num_classes=8, num_books=2, combine_time_steps=2, normalize="per_feature")


def fitted(**changes) -> FittedTargets:
    torch.manual_seed(0)
    codebooks = torch.nn.functional.normalize(torch.randn(2, 8, 3, dtype=torch.float64), dim=-1)
    values = dict(mean=(0.5,) * 4, std=(2.0,) * 4, projection=torch.randn(6, 8), codebooks=codebooks)
    return FittedTargets(
        **{**values, "normalize": "per_feature", "fixed_features": False, "combine_time_steps": 2, **changes}
    )


def test_a_saved_file_is_written_into_the_tokenizer(tmp_path):
    fitted().save(tmp_path / "targets.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["targets.pt"]
    loaded = FittedTargets.load(tmp_path / "targets.pt")
    tokenizer = RandomProjectionVectorQuantizer(**SIZES)
    loaded.write_into(tokenizer, fixed_features=True)
    assert torch.equal(tokenizer.proj.weight, fitted().projection)
    assert torch.equal(tokenizer.codebooks, fitted().codebooks)
    assert not tokenizer.proj.weight.requires_grad and not tokenizer.codebooks.requires_grad
    assert (loaded.mean, loaded.std) == (fitted().mean, fitted().std)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 16}, "model.fitted_targets must be fitted with quantizer.num_classes: 16, .*with 8"),
        ({"num_books": 1}, "quantizer.num_books: 1, .*with 2"),
        ({"code_dim": 5}, "quantizer.code_dim: 5, .*with 3"),
        ({"feat_in": 5}, "quantizer.feat_in: 5, .*with 4"),
        ({"combine_time_steps": 4}, "quantizer.combine_time_steps: 4, .*with 2"),
        ({"normalize": "layer_norm"}, "quantizer.normalize: layer_norm, .*with per_feature"),
    ],
)
def test_another_tokenizer_is_refused_and_stays_as_it_is(changes, message):
    tokenizer = RandomProjectionVectorQuantizer(**{**SIZES, **changes})
    before = tokenizer.proj.weight.clone()
    wrong = fitted()
    if "combine_time_steps" in changes:
        tokenizer.feat_in = 4
    with pytest.raises(ValueError, match=message):
        wrong.write_into(tokenizer, fixed_features=False)
    assert torch.equal(tokenizer.proj.weight, before)


def test_other_features_are_refused_unless_the_utterances_statistics_undo_the_difference():
    tokenizer = RandomProjectionVectorQuantizer(**{**SIZES, "normalize": "layer_norm"})
    with pytest.raises(ValueError, match="features that are not normalised, .*normalised by fixed statistics"):
        fitted(normalize="layer_norm", fixed_features=True).write_into(tokenizer, fixed_features=False)
    fitted(normalize="layer_norm", fixed_features=True).write_into(tokenizer, fixed_features=True)


def test_statistics_alone_are_no_targets():
    tokenizer = RandomProjectionVectorQuantizer(**SIZES)
    with pytest.raises(ValueError, match="model.fitted_targets must hold a projection and codebooks"):
        fitted(projection=None, codebooks=None).write_into(tokenizer, fixed_features=False)


def test_what_is_no_such_file_is_named(tmp_path):
    (tmp_path / "text").write_text("no")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match="must be a file that fit_targets.py wrote; got .*none.pt, which does"):
        FittedTargets.load(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="got .*text, which cannot be read"):
        FittedTargets.load(tmp_path / "text")
    with pytest.raises(ValueError, match="got .*other.pt, which holds something else"):
        FittedTargets.load(tmp_path / "other.pt")
    with pytest.raises(TypeError, match="got 3"):
        FittedTargets.load(3)
