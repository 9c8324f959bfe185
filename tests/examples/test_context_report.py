"""The command that reports on contexts: what it writes, what it leaves out, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("matplotlib", reason="the report's pictures are plotted by matplotlib, which is not installed")

import context_report  # noqa: E402
from nest_tools.recipe import Recipe  # noqa: E402
from nest_tools.report import context_table  # noqa: E402

from nemo.collections.asr.parts.attention_context import AttentionContext  # noqa: E402

CONFIG = Path(__file__).resolve().parents[2] / "examples/asr/conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml"
RATE = 16000


def speech(file: Path, seconds: float) -> Path:
    """Noise that swells and fades, as a file."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    soundfile.write(file, 0.1 * samples * np.sin(np.arange(len(samples)) / RATE) ** 2, RATE)
    return file


@pytest.mark.slow
def test_the_command_writes_tables_and_pictures_and_names_what_cannot_be_used(tmp_path, capsys):
    speech(tmp_path / "long.wav", 8.0)
    speech(tmp_path / "short.wav", 0.05)
    entries = [
        {"audio_filepath": "long.wav", "offset": 1.0, "duration": 3.0},
        {"audio_filepath": "missing.wav"},
        {"audio_filepath": "short.wav"},
        {"text": "an entry without a file"},
    ]
    manifest = tmp_path / "manifest.json"
    manifest.write_text("\n".join(map(json.dumps, entries)) + "\nno JSON\n")
    out = tmp_path / "report"
    arguments = ["--config", CONFIG, "--audio", tmp_path / "long.wav", "--manifest", manifest, "--out", out]
    arguments += ["--context", "40,0", "--context", "low", "--draws", 3, "--seed", 2]
    assert context_report.main([*map(str, arguments), "--json"]) == 1

    pictures = ["context_160_0.png", "context_40_0.png", "contexts.png"]
    assert sorted(file.name for file in out.iterdir()) == [*pictures, "report.json", "report.md"]
    written = json.loads((out / "report.json").read_text())
    shown = capsys.readouterr()
    assert json.loads(shown.out[shown.out.index("{\n") :]) == written
    contexts = [AttentionContext(40, 0), AttentionContext(160, 0)]
    recipe = Recipe.of_config(CONFIG)
    assert written["rows"] == context_table(recipe, [800, 300], contexts, masks_per_utterance=3, seed=2)
    text = (out / "report.md").read_text()
    assert all(f"({name})" in text for name in pictures)
    reasons = {"missing.wav": "does not exist", "short.wav": "at least an encoder frame of 0.080 s"}
    reasons |= {"manifest.json:4": "no manifest entry", "manifest.json:5": "no manifest entry"}
    for what, reason in reasons.items():
        for lines in (text.splitlines(), shown.err.splitlines()):
            assert any(what in line and reason in line for line in lines), what


def test_a_restored_file_gives_the_report_of_its_model(tiny_model, tmp_path):
    model = tiny_model()
    file, wav, out = tmp_path / "model.nemo", speech(tmp_path / "utterance.wav", 2.0), tmp_path / "report"
    model.save_to(str(file))
    arguments = ["--model", file, "--audio", wav, "--context=-1,0", "--draws", 2, "--out", out]
    assert context_report.main([str(argument) for argument in arguments]) == 0
    expected = context_table(Recipe.of_model(model), [200], [AttentionContext(-1, 0)], masks_per_utterance=2)
    assert json.loads((out / "report.json").read_text())["rows"] == expected


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"--context": "lo"}, ValueError, "Did you mean 'low'"),
        ({"--context": "8"}, ValueError, r"context must be .*got \[8\]"),
        ({"--audio": "missing.wav"}, ValueError, r"missing\.wav: the file does not exist"),
        ({"--audio": "short.wav"}, ValueError, r"short\.wav: the utterance must be .* 0\.080 s long; got 0\.050 s"),
        ({"--manifest": "missing.json"}, FileNotFoundError, r"a manifest must be .*missing\.json, which does not"),
        ({"--config": "missing.yaml"}, FileNotFoundError, r"--config must be .*missing\.yaml, which does not exist"),
        ({"--config": None, "--model": "missing.nemo"}, FileNotFoundError, r"--model must be .*missing\.nemo, which"),
        ({"--config": None, "--model": "short.wav"}, ValueError, r"short\.wav, which is no archive"),
        ({"--audio": None}, SystemExit, "2"),
        ({"--draws": "0"}, SystemExit, "2"),
    ],
)
def test_what_cannot_be_reported_is_refused_and_nothing_is_written(changes, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    speech(Path("long.wav"), 1.0)
    speech(Path("short.wav"), 0.05)
    options = {"--config": str(CONFIG), "--audio": "long.wav", "--out": "report", **changes}
    with pytest.raises(error, match=message):
        context_report.main([text for option, value in options.items() if value for text in (option, value)])
    assert not Path("report").exists()
