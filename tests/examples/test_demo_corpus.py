"""The command that makes the demo corpus."""

import subprocess
import sys
from pathlib import Path

import demo_corpus
import pytest

pytest.importorskip("espeakng_loader", reason="the demo corpus is spoken by espeakng-loader, which is not installed")

SMALL = "--minutes 0.1 --validation-minutes 0.1 --min-seconds 5 --max-seconds 7".split()


def test_the_command_shows_its_progress_and_prints_where_the_manifests_are(tmp_path, capsys):
    folder = tmp_path / "corpus"
    assert demo_corpus.main([str(folder), *SMALL]) == 0
    first = capsys.readouterr()
    assert str(folder / "train_manifest.json") in first.out and "train_utterances" in first.out
    assert "demo corpus: 100%" in first.err
    assert demo_corpus.main([str(folder), *SMALL, "--no-progress"]) == 0
    again = capsys.readouterr()
    assert again.out == first.out and not again.err


def test_the_command_turns_bad_options_into_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        demo_corpus.main([str(tmp_path / "corpus"), "--minutes", "0"])
    assert "minutes must be a finite number > 0; got 0.0" in capsys.readouterr().err


def test_a_corpus_is_made_without_nemo_and_torch():
    code = "import sys, demo_corpus, nest_tools.audio; assert not {'nemo', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(demo_corpus.__file__).parent, check=True)
