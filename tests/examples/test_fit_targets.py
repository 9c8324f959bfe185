"""The script that fits a tokenizer: its file trains, is restored without it, and streams."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from pretraining_batches import DENSE, loss_of

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules.ssl_modules.fitted_targets import FittedTargets
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream

SCRIPT = Path(__file__).resolve().parents[2] / "examples/asr/speech_pretraining/fit_targets.py"
SIZES = {"num_classes": 16, "num_books": 2, "code_dim": 6}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fit_targets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_targets"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def file(script, manifests, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("fit") / "targets.pt"
    overrides = [f"model.{key}={value}" for key, value in SIZES.items()]
    script.main([f"--out={file}", f"model.train_ds.manifest_filepath={manifests['speech']}", *overrides])
    return file


def test_a_model_takes_up_the_file_and_is_restored_without_it(file, tiny_model, audio, tmp_path):
    fitted = FittedTargets.load(file)
    config = {**DENSE, **SIZES, "preprocessor.normalize": {"fixed_from": str(file)}, "fitted_targets": str(file)}
    model = tiny_model(config).eval()
    assert torch.equal(model.quantizer.codebooks, fitted.codebooks)
    assert list(model.cfg.preprocessor.normalize.fixed_mean) == list(fitted.mean)
    assert loss_of(model, *audio) > 0
    model.save_to(str(tmp_path / "model.nemo"))
    moved = file.rename(file.with_name("gone.pt"))
    try:
        restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "model.nemo")).eval()
        with pytest.raises(FileNotFoundError, match="model.fitted_targets must be a file that fit_targets.py wrote"):
            tiny_model({**SIZES, "fitted_targets": str(file)})
    finally:
        moved.rename(file)
    features = model.preprocessor(input_signal=audio[0], length=audio[1])
    theirs = restored.preprocessor(input_signal=audio[0], length=audio[1])
    torch.testing.assert_close(theirs[0], features[0])
    assert torch.equal(restored.quantizer.codebooks, fitted.codebooks)
    with EncoderStream(restored, [8, 0]) as stream:
        live = torch.cat(
            [stream.push(audio[0][0, :20000])[0], stream.push(audio[0][0, 20000:])[0], stream.finish()[0]], 2
        )
    restored.encoder.att_context_size = [8, 0]
    with torch.no_grad():
        encoded, _ = restored.encoder(audio_signal=theirs[0][:1], length=theirs[1][:1])
    torch.testing.assert_close(live, encoded, atol=1e-4, rtol=0)


def test_features_normalised_by_the_file_have_mean_0_and_deviation_1(file, script, manifests, tiny_model):
    model = tiny_model({"preprocessor.normalize": {"fixed_from": str(file)}}).eval()
    options = script.parse(["--out=x", f"model.train_ds.manifest_filepath={manifests['speech']}"])
    cfg = script.model_config(options)
    corpus = script.features_of_corpus(cfg, model.preprocessor)
    frames = torch.cat([features[0, :, :count] for features, count in corpus], dim=1)
    torch.testing.assert_close(frames.mean(1), torch.zeros(80), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames.std(1), torch.ones(80), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], ValueError, "model.train_ds.manifest_filepath must be a manifest; got none"),
        (["MANIFEST", "model.mask_position=post_conv"], ValueError, "model.mask_position must be pre_conv"),
        (["MANIFEST", "model.train_ds.min_duration=100"], ValueError, "must hold utterances of 100 to 60.0 s; got 8"),
        (["MANIFEST", "model.no_such_key=1"], ValueError, "the config cannot be read.*no_such_key"),
        (["MANIFEST", "--tokens=0"], ValueError, "--tokens must be a whole number >= 1; got 0"),
        (["MANIFEST"], ValueError, "must have at least 1024 tokens"),
        (
            ["MANIFEST", "model.quantizer.normalize=none", "model.num_classes=8"],
            ValueError,
            "quantizer.normalize must be",
        ),
    ],
)
def test_what_cannot_be_fitted_is_named(script, manifests, tmp_path, arguments, error, message):
    manifest = f"model.train_ds.manifest_filepath={manifests['speech']}"
    arguments = [manifest if argument == "MANIFEST" else argument for argument in arguments]
    with pytest.raises(error, match=f"(?s){message}"):
        script.main([f"--out={tmp_path / 'targets.pt'}", *arguments])
    assert not list(tmp_path.iterdir())


def test_wrong_sized_files_are_refused_when_the_model_is_built(file, tiny_model):
    with pytest.raises(ValueError, match="model.fitted_targets must be fitted with quantizer.num_classes: 32"):
        tiny_model({**SIZES, "num_classes": 32, "fitted_targets": str(file)})
    with pytest.raises(ValueError, match="model.fitted_targets must be null with mask_position: post_conv"):
        tiny_model({**SIZES, "mask_position": "post_conv", "fitted_targets": str(file)})
