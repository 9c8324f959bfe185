"""The command that probes a model for phones."""

import json
from pathlib import Path

import numpy as np
import phone_probe
import pytest
import soundfile
from nest_tools.corpus.phones import Phone, write_phones
from nest_tools.corpus.store import Corpus


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """In place of a corpus that was spoken: hisses and hums, with their times."""
    manifests = {}
    for split, count in (("train", 3), ("validation", 2), ("noise", 0)):
        lines = []
        for index in range(count):
            file = tmp_path / split / f"{index}.wav"
            file.parent.mkdir(exist_ok=True)
            hiss = 0.1 * np.random.default_rng(index).standard_normal(16000)
            soundfile.write(file, np.concatenate([hiss, 0.1 * np.sin(np.arange(16000) / 10)]), 16000)
            write_phones(file, [Phone("s", 0.0, 1.0), Phone("u", 1.0, 2.0)])
            lines.append(json.dumps({"audio_filepath": f"{split}/{index}.wav", "duration": 2.0}) + "\n")
        manifests[f"{split}_manifest"] = tmp_path / f"{split}_manifest.json"
        manifests[f"{split}_manifest"].write_text("".join(lines))
    return Corpus(tmp_path, **manifests, **dict.fromkeys(TOTALS, 0))


TOTALS = ("train_utterances", "validation_utterances", "train_seconds", "validation_seconds", "noise_seconds")


def run(model_file: Path, out: Path, *options: str) -> int:
    return phone_probe.main(["--model", str(model_file), "--corpus", "corpus", "--out", str(out), *options])


@pytest.mark.slow
def test_each_context_is_probed_and_what_cannot_be_used_is_named(tiny_model, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(phone_probe, "open_corpus", lambda folder: corpus)
    tiny_model().save_to(str(tmp_path / "model.nemo"))
    assert run(tmp_path / "model.nemo", tmp_path / "probe") == 0
    rows = json.loads((tmp_path / "probe/probe.json").read_text())
    contexts = ["[8, 0]", "[16, 0]", "[-1, 0]"]
    others = ["log-mels", "most frequent phone", "[-1, 0], random weights"]
    assert [row["frames"] for row in rows] == [*contexts, *others]
    assert all(row["offline"] > 0.8 and row["online"] == row["offline"] for row in rows[:3])
    text = (tmp_path / "probe/probe.md").read_text()
    assert text in capsys.readouterr().out and "of 2 phones" in text

    (tmp_path / "train/1.wav").write_bytes(b"")
    assert run(tmp_path / "model.nemo", tmp_path / "again", "--context", "16,0") == 1
    assert "1.wav: the file is empty" in capsys.readouterr().err
    assert [row["frames"] for row in json.loads((tmp_path / "again/probe.json").read_text())][0] == "[16, 0]"
