"""The steps of the demo, each on a tiny model."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
from nest_tools import demo
from omegaconf import open_dict
from phone_corpus import write_phone_corpus

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> SimpleNamespace:
    """A corpus of noise with phones."""
    folder = write_phone_corpus(tmp_path_factory.mktemp("demo"))
    manifests = {f"{split}_manifest": folder / f"{split}_manifest.json" for split in ("train", "validation")}
    return SimpleNamespace(folder=folder, **manifests)


@pytest.fixture(scope="module")
def model(tiny_config):
    """A model that predicts the next two tokens, of two books."""
    torch.manual_seed(0)
    cfg = tiny_config({"num_books": 2}, config="nest_fast-conformer_streaming_future")
    model = EncDecDenoiseMaskedTokenPredModel(cfg).eval()
    with open_dict(model.cfg):
        model.cfg.validation_ds = {"sample_rate": 16000, "batch_size": 2, "shuffle": False}
    return model


def test_pretraining_runs_the_script_with_a_passive_wait_and_takes_its_newest_file(tmp_path, monkeypatch):
    given = {}

    def trained(command, check, env):
        given.update(command=command, check=check, env=env)
        for name, age in (("old", 2), ("new", 1)):
            file = tmp_path / name / "checkpoints" / f"{name}.nemo"
            file.parent.mkdir(parents=True)
            file.touch()
            stamp = 1e9 - age
            os.utime(file, (stamp, stamp))

    monkeypatch.setattr(subprocess, "run", trained)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    corpus = SimpleNamespace(train_manifest="train.json", validation_manifest="validation.json")
    assert demo.pretrain(corpus, tmp_path, steps=3).name == "new.nemo"
    assert given["check"] and given["env"]["OMP_WAIT_POLICY"] == "passive"
    assert given["command"][0] == sys.executable and Path(given["command"][1]).is_file()
    assert "trainer.max_steps=3" in given["command"] and "nest_streaming_demo" in given["command"]


def test_every_context_is_evaluated_and_tokens_are_counted_alike(model, corpus):
    rows, tokens = demo.evaluate(model, corpus)
    assert [row["context"] for row in rows] == [[left, 0] for left in (8, 16, 80, 160, 240, 320, -1)]
    assert [row["name"] for row in rows] == ["", "", *CONTEXT_PRESETS]
    assert all(row["loss"] > 0 and len(row["accuracies"]) == 2 for row in rows)

    counts = torch.zeros(2, model.cfg.num_classes)
    for file in sorted((corpus.folder / "validation").glob("*.wav")):
        samples = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
        features, length = model.preprocessor(input_signal=samples[None], length=torch.tensor([len(samples)]))
        _, ids = model.quantizer(input_signal=features, input_lengths=length)
        for book in range(2):
            counts[book] += torch.bincount(ids[0, : int(length) // 8, book], minlength=counts.shape[1])
    shares = (counts / counts.sum(1, keepdim=True)).double()
    entropies = torch.special.entr(shares).sum(1)
    assert tokens["most_frequent"] == pytest.approx(float(shares.max(1).values.mean()))
    assert tokens["entropy"] == pytest.approx(float(entropies.mean()))
    assert tokens["perplexity"] == pytest.approx(float(entropies.exp().mean()))
    assert 0 < tokens["given_earlier"]


def test_phones_are_looked_for_in_the_contexts_in_random_weights_and_in_log_mels(model, corpus):
    found = demo.probe_phones(model, corpus, [[8, 0], [-1, 0]])
    assert set(found) == {"[8, 0]", "[-1, 0]", "random weights", "log-mels", "most frequent phone"}
    assert all(0 < share <= 1 for share in found.values())


def test_the_table_has_all_that_a_row_is_to_be_compared_with(model):
    rows = [
        {"context": [8, 0], "name": "", "loss": 2.5, "accuracies": [0.25, 0.125]},
        {"context": [160, 0], "name": "low", "loss": 2.25, "accuracies": [0.5, 0.25]},
    ]
    tokens = {"given_earlier": 2.75, "entropy": 3.0, "perplexity": 20.1, "most_frequent": 0.1}
    phones = {"[8, 0]": 0.75, "random weights": 0.5, "log-mels": 0.625}
    lines = demo.results_table(model, rows, tokens, phones).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert cells == [
        ["", "[8, 0]", "0.6 s", "2.500", "25.0 %", "75.0 %"],
        ["low", "[160, 0]", "12.8 s", "2.250", "50.0 %", "-"],
        ["by earlier tokens", "", "", "2.750", "", ""],
        ["by frequency", "", "", "3.000", "10.0 %", ""],
        ["random weights", "", "", "", "", "50.0 %"],
        ["log-mels", "", "", "", "", "62.5 %"],
    ]


def test_an_utterance_streams_as_it_is_encoded_offline(model, corpus):
    live = demo.stream(model, corpus.folder / "validation/1.wav", "low")
    assert (live.context, live.seconds, live.frames) == ("low", 3.2, 41) and live.difference < 1e-4
