"""The command that makes a corpus of aligned speech."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

SCRIPTS = Path(__file__).resolve().parents[2] / "examples/asr/speech_pretraining"


def test_it_makes_the_corpus_and_says_how_much_there_is(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import aligned_corpus

    for part in ("etc", "wav", "lab"):
        (tmp_path / "voice" / part).mkdir(parents=True)
    soundfile.write(tmp_path / "voice/wav/one.wav", 0.1 * np.sin(np.arange(16000)), 16000)
    (tmp_path / "voice/lab/one.lab").write_text("#\n0.5 125 a\n1.0 125 pau\n")
    (tmp_path / "voice/etc/txt.done.data").write_text('( one "One." )\n')
    assert aligned_corpus.main(["festvox", str(tmp_path / "voice"), str(tmp_path / "corpus")]) == 0
    assert capsys.readouterr().out.split() == ["train", "1", "utterances", "0.0", "minutes"]
    manifest = str(tmp_path / "corpus/train_manifest.json")
    again = [
        "manifest",
        manifest,
        str(tmp_path / "again"),
        "--alignments",
        str(tmp_path / "voice/lab"),
        "--split=test",
    ]
    assert aligned_corpus.main(again) == 0
    assert (tmp_path / "again/test/one.phones.json").is_file()
    with pytest.raises(ValueError, match="FOLDER must hold one voice"):
        aligned_corpus.main(["festvox", str(tmp_path / "corpus"), str(tmp_path / "other")])
    sys.modules.pop("aligned_corpus", None)
