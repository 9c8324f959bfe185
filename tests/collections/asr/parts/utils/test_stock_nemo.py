"""Files that restore on NeMo without the patch."""

import os
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.utils.stock_nemo import save_for_stock_nemo, stock_config

ON_STOCK_NEMO = """
import sys, torch
from omegaconf import OmegaConf, open_dict
from nemo.collections.asr.models import EncDecCTCModel, EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules import RandomBlockMasking

assert not hasattr(RandomBlockMasking, "sample_causal"), "the patch is on"
file, answers = sys.argv[1:]
audio, lengths = torch.load(answers + ".audio")
model = EncDecDenoiseMaskedTokenPredModel.restore_from(file).eval()
asr = OmegaConf.create({
    "sample_rate": 16000, "labels": [" ", "a", "b"],
    "preprocessor": model.cfg.preprocessor, "encoder": model.cfg.encoder,
    "decoder": {"_target_": "nemo.collections.asr.modules.ConvASRDecoder", "feat_in": model.cfg.encoder.d_model,
                "num_classes": 3, "vocabulary": [" ", "a", "b"]},
    "optim": {"name": "adamw", "lr": 1e-3},
})
ctc = EncDecCTCModel(asr)
part = {"path": file, "include": ["preprocessor", "encoder"]}
ctc.maybe_init_from_pretrained_checkpoint(OmegaConf.create({"init_from_nemo_model": {"nest": part}}))
ctc.eval()
with torch.no_grad():
    encoded = []
    for one in (model, ctc):
        features, frames = one.preprocessor(input_signal=audio, length=lengths)
        encoded.append(one.encoder(audio_signal=features, length=frames)[0].clone())
torch.save(encoded, answers)
"""


@pytest.mark.slow
def test_stock_nemo_restores_the_file_and_starts_asr_from_it(tiny_model, audio, tmp_path):
    objective = {"masked": 1, "future": 1}
    model = tiny_model({"encoder.att_context_probs": [0.2, 0.3, 0.5000001], "objective": objective}).eval()
    written = OmegaConf.to_yaml(model.cfg)
    file, answers = tmp_path / "stock.nemo", tmp_path / "encoded.pt"
    save_for_stock_nemo(model, file)
    assert OmegaConf.to_yaml(model.cfg) == written

    torch.save(audio, f"{answers}.audio")
    command = [sys.executable, "-c", ON_STOCK_NEMO, str(file), str(answers)]
    # No other NeMo of ours either: neither through the working directory nor through PYTHONPATH.
    environment = {**os.environ, "NEMO_OVERLAY": "0"}
    environment.pop("PYTHONPATH", None)
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]

    with torch.no_grad():
        features, frames = model.preprocessor(input_signal=audio[0], length=audio[1])
        expected = model.encoder(audio_signal=features, length=frames)[0]
    restored, asr = torch.load(answers)
    torch.testing.assert_close(restored, expected)
    torch.testing.assert_close(asr, expected)


def test_heads_and_objective_are_left_out_and_the_model_keeps_them(tiny_model, audio, tmp_path):
    objective = {"objective": {"masked": 0, "future": 1}, "num_books": 2}
    model = tiny_model(objective)
    keys, heads = list(model.state_dict()), model.future_heads
    save_for_stock_nemo(model, tmp_path / "stock.nemo")
    assert model.future_heads is heads and list(model.state_dict()) == keys and "objective" in model.cfg
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "stock.nemo"))
    assert "objective" not in restored.cfg and restored.future_heads is None
    assert list(restored.state_dict()) == [key for key in keys if not key.startswith("future_heads")]
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in restored.state_dict().items())


def test_the_weights_are_untouched_and_the_patch_restores_the_file_too(tiny_model, tmp_path):
    model = tiny_model()
    save_for_stock_nemo(model, tmp_path / "stock.nemo")
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "stock.nemo"))
    assert not restored.mask_processor.causal
    theirs = restored.state_dict()
    assert model.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def test_probabilities_sum_to_one_exactly():
    cfg = OmegaConf.create({"encoder": {"att_context_probs": [0.1] * 10}})
    assert stock_config(cfg).encoder.att_context_probs is None
    drawn = [
        0.1523943,
        0.1090385,
        0.1407373,
        0.0038264,
        0.1483511,
        0.1273837,
        0.1056707,
        0.0254882,
        0.10172,
        0.0853899,
    ]
    for probabilities in ([0.1, 0.2, 0.7000003], drawn):
        cfg.encoder.att_context_probs = probabilities
        exact = stock_config(cfg).encoder.att_context_probs
        assert sum(exact) == 1
        assert list(exact) == pytest.approx(probabilities, abs=1e-6)
    cfg.encoder.att_context_probs = [0.25, 0.75]
    assert list(stock_config(cfg).encoder.att_context_probs) == [0.25, 0.75]


def test_a_range_of_contexts_becomes_the_list_that_nemo_takes(tiny_model, tmp_path):
    sizes = [{"left": [8, 24], "step": 8, "right": [0], "validate": [[8, 0]]}, [-1, 0]]
    model = tiny_model({"encoder.att_context_size": sizes, "encoder.att_context_probs": [0.7, 0.3]})
    written = OmegaConf.to_yaml(model.cfg)
    save_for_stock_nemo(model, tmp_path / "stock.nemo")
    assert OmegaConf.to_yaml(model.cfg) == written
    encoder = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "stock.nemo"), return_config=True).encoder
    assert encoder.att_context_size == [[8, 0], [16, 0], [24, 0], [-1, 0]]
    assert sum(encoder.att_context_probs) == 1
    assert "blockwise_attention" not in encoder
