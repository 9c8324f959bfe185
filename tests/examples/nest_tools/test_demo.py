"""The steps of the demo, each on a tiny model."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from nest_tools import demo
from omegaconf import open_dict

from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """A corpus's validation: three utterances and their manifest."""
    folder = tmp_path_factory.mktemp("demo")
    lines = []
    for index, seconds in enumerate((2.0, 3.0, 2.5)):
        samples = 0.1 * np.random.default_rng(index).standard_normal(int(16000 * seconds))
        soundfile.write(folder / f"{index}.wav", samples, 16000)
        lines.append(f'{{"audio_filepath": "{index}.wav", "duration": {seconds}, "text": ""}}\n')
    (folder / "validation_manifest.json").write_text("".join(lines))
    return folder


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


def test_every_preset_is_evaluated_and_tokens_are_counted_alike(tiny_model, speech):
    model = tiny_model().eval()
    with open_dict(model.cfg):
        model.cfg.validation_ds = {"sample_rate": 16000, "batch_size": 2, "shuffle": False}
    results = demo.evaluate(model, SimpleNamespace(validation_manifest=speech / "validation_manifest.json"))
    assert list(results) == list(CONTEXT_PRESETS)
    assert all(row["loss"] > 0 and 0 <= row["accuracy"] <= 1 for row in results.values())

    tokens = demo.token_statistics(model)
    counts = torch.zeros(model.cfg.num_classes)
    for index in range(3):
        samples = torch.from_numpy(soundfile.read(speech / f"{index}.wav", dtype="float32")[0])
        features, length = model.preprocessor(input_signal=samples[None], length=torch.tensor([len(samples)]))
        _, ids = model.quantizer(input_signal=features, input_lengths=length)
        counts += torch.bincount(ids[0, : int(length) // 8, 0], minlength=len(counts))
    shares = (counts / counts.sum()).double()
    assert tokens["largest_share"] == pytest.approx(float(shares.max()))
    assert tokens["entropy"] == pytest.approx(float(-(shares[shares > 0] * shares[shares > 0].log()).sum()))
    assert tokens["perplexity"] == pytest.approx(np.exp(tokens["entropy"]))

    text = demo.results_table(model, results, tokens)
    assert f"| low | [160, 0] | 12.8 s | {results['low']['loss']:.3f} |" in text
    assert f"entropy {tokens['entropy']:.3f} nats" in text


def test_an_utterance_streams_as_it_is_encoded_offline(tiny_model, speech):
    live = demo.stream(tiny_model().eval(), speech / "1.wav", "low")
    assert (live.context, live.seconds, live.frames) == ("low", 3.0, 39) and live.difference < 1e-4
