"""Live audio: files, standard input and a microphone as pieces of samples."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from nest_tools.audio import AudioReader, UnusableAudio
from nest_tools.live import MICROPHONE, STDIN, check_microphone, open_source, source_names

READER = AudioReader(16000)


def test_every_source_has_a_name_of_its_own():
    assert source_names(["a/one.wav", STDIN, "b/one.wav", MICROPHONE]) == ["one", "stdin", "one-1", "microphone"]


def test_a_file_comes_in_pieces_of_which_the_last_is_shorter(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 2500).astype(np.float32)
    soundfile.write(tmp_path / "speech.wav", samples, 16000, subtype="FLOAT")
    pieces, total = open_source(str(tmp_path / "speech.wav"), READER, 1000)
    pieces = list(pieces)
    assert total == 2500 and [len(piece) for piece in pieces] == [1000, 1000, 500]
    np.testing.assert_array_equal(np.concatenate(pieces), samples)
    with pytest.raises(UnusableAudio, match="the file does not exist"):
        open_source(str(tmp_path / "missing.wav"), READER, 1000)


def test_standard_input_is_16_bit_pcm_and_half_a_sample_at_its_end_is_dropped(monkeypatch):
    raw = np.array([0, 16384, -32768, 1], dtype="<i2").tobytes() + b"\x7f"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    pieces, total = open_source(STDIN, READER, 3)
    assert total is None and [piece.tolist() for piece in pieces] == [[0.0, 0.5, -1.0], [1 / 32768]]


def test_without_a_recorder_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError, match=r"pip install sounddevice.*arecord -f S16_LE -r 8000"):
        check_microphone(8000)


def test_a_recording_ends_with_ctrl_c(monkeypatch, capsys):
    class Device:
        left = 2

        def __enter__(self):
            return self

        def __exit__(self, *_):
            closed.append(True)

        def read(self, chunk):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return np.full((chunk, 1), 0.5, np.float32), False

    closed = []
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(InputStream=lambda **_: Device()))
    pieces, total = open_source(MICROPHONE, READER, 4)
    assert [piece.tolist() for piece in pieces] == [[0.5] * 4] * 2 and total is None and closed == [True]
    assert "Ctrl-C" in capsys.readouterr().err
