"""Encoder frames of files: what is written, and the table of figures."""

from types import SimpleNamespace

import numpy as np
import pytest
from context_examples import speech
from nest_tools.features import ContextFigures, extract, frame_seconds, left_seconds, table
from nest_tools.utterances import Utterance


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model().eval()


@pytest.mark.slow
def test_each_utterance_has_a_file_with_an_array_for_each_context(model, tmp_path):
    utterances = [Utterance.of_file(speech(tmp_path / "one.wav", 1.0)), Utterance.of_file(tmp_path / "missing.wav")]
    figures, skipped = extract(model, utterances, ["8,0", "unlimited"], tmp_path / "new" / "out")
    assert [file.name for file in (tmp_path / "new" / "out").iterdir()] == ["one.npz"]
    arrays = np.load(tmp_path / "new" / "out" / "one.npz")
    assert list(arrays) == ["8,0", "unlimited"] and [skip.what for skip in skipped] == [str(tmp_path / "missing.wav")]
    for row in figures:
        assert arrays[row.name].shape == (row.frames, model.cfg.encoder.d_model) and row.seconds == pytest.approx(1.0)
        assert arrays[row.name].dtype == np.float32 and row.computing > 0
    assert not np.array_equal(arrays["8,0"], arrays["unlimited"])


def test_a_context_that_the_model_cannot_take_is_refused_before_anything_is_computed(model, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'low'"):
        extract(model, [Utterance.of_file(tmp_path / "one.wav")], ["8,0", "lwo"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_table_has_seconds_and_the_real_time_factor():
    figures = [ContextFigures("low", [160, 0], frames=25, seconds=2.0, computing=0.1), ContextFigures("all", [-1, 0])]
    lines = table(figures, 0.08).splitlines()
    assert lines[-2:] == [
        "| low | [160, 0] | 12.8 s | 25 | 2.0 s | 0.0500 |",
        "| all | [-1, 0] | unlimited | 0 | 0.0 s | 0.0000 |",
    ]


def test_a_left_context_is_told_in_seconds():
    model = SimpleNamespace(
        cfg=SimpleNamespace(preprocessor=SimpleNamespace(window_stride=0.01)),
        encoder=SimpleNamespace(subsampling_factor=4),
    )
    assert frame_seconds(model) == pytest.approx(0.04)
    assert [left_seconds(left, frame_seconds(model)) for left in (0, 10, -1)] == ["0.0 s", "0.4 s", "unlimited"]
