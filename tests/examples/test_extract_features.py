"""The command that extracts features: what it writes, prints and refuses."""

import json
from pathlib import Path

import extract_features
import numpy as np
import pytest
import soundfile
import torch

from nemo.collections.asr.parts.utils.streaming_utils import encode


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """A model, two recordings, and a manifest of pieces of them."""
    folder = tmp_path_factory.mktemp("extract")
    model.save_to(str(folder / "model.nemo"))
    generator = np.random.default_rng(0)
    for name, seconds in (("one", 2.0), ("two", 1.5)):
        samples = 0.1 * generator.standard_normal(round(16000 * seconds))
        soundfile.write(folder / f"{name}.wav", samples, 16000, subtype="FLOAT")
    pieces = [{"audio_filepath": "one.wav", "offset": 0.5, "duration": 1.0}, {"audio_filepath": "two.wav"}]
    (folder / "manifest.json").write_text("".join(json.dumps(piece) + "\n" for piece in pieces))
    return folder


def run(folder: Path, out: Path, *arguments: str) -> int:
    return extract_features.main(
        ["--model", str(folder / "model.nemo"), "--out", str(out), "--device", "cpu", *arguments]
    )


def test_each_utterance_has_the_encoders_frames_at_each_context(model, folder, tmp_path, capsys):
    arguments = ["--context", "low", "--context", "8,0", "--manifest", str(folder / "manifest.json")]
    assert run(folder, tmp_path, str(folder / "one.wav"), *arguments) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one-1.npz", "one.npz", "two.npz"]
    samples, _ = soundfile.read(folder / "one.wav", dtype="float32")
    for name, piece in (("one", samples), ("one-1", samples[8000:24000])):
        written = np.load(tmp_path / f"{name}.npz")
        assert sorted(written) == ["8,0", "low"]
        for context, sizes in (("low", [160, 0]), ("8,0", [8, 0])):
            expected = encode(model, torch.from_numpy(piece), context=sizes)[0][0].T.numpy()
            np.testing.assert_allclose(written[context], expected, rtol=0, atol=1e-5)
            assert written[context].dtype == np.float32
    printed = capsys.readouterr().out
    frames = sum(len(np.load(file)["low"]) for file in tmp_path.iterdir())
    assert f"| low | [160, 0] | 12.8 s | {frames} | 4.5 s |" in printed and "3 files of features" in printed


def test_all_presets_are_the_default(folder, tmp_path):
    assert run(folder, tmp_path, str(folder / "two.wav")) == 0
    assert sorted(np.load(tmp_path / "two.npz")) == ["high", "low", "medium", "unlimited", "very_low"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["one.wav", "--context", "lwo"], ValueError, "Did you mean 'low'"),
        (["--manifest", "missing.json"], FileNotFoundError, "a manifest must be .*missing.json, which does not exist"),
        ([], SystemExit, "2"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(folder, arguments, error, said, tmp_path):
    with pytest.raises(error, match=said):
        run(folder, tmp_path / "features", *arguments)
    assert not (tmp_path / "features").exists()
