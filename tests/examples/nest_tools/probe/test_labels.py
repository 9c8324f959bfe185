"""Labelled audio, and the phone at each encoder frame."""

import json

import numpy as np
import soundfile
from labelled_speech import speech
from nest_tools.audio import AudioReader
from nest_tools.corpus.phones import Phone, write_phones
from nest_tools.probe import read_labelled
from nest_tools.probe.labels import FrameLabels


def test_a_frame_has_the_phone_in_the_middle_of_the_token_it_has_just_seen(tiny_model):
    model = tiny_model()
    # Causal striding: frame k + 1 is the first one that has seen token k, whose middle is 80 k + 35 ms.
    phones = [("a", 0.0, 0.1), ("b", 0.1, 0.2), ("c", 0.2, 9.0)]
    labels = FrameLabels(model, ["a", "b"])(speech(1.0, phones), frames=6)
    assert labels.tolist() == [-1, 0, 1, 1, -1, -1]


def test_without_causal_striding_a_frame_has_the_phone_of_its_own_token(tiny_model):
    labels = FrameLabels(tiny_model({"encoder.causal_downsampling": False}), ["a", "b", "c"])
    phones = [("a", 0.0, 0.1), ("b", 0.1, 0.2), ("c", 0.2, 9.0)]
    assert labels(speech(1.0, phones), frames=4).tolist() == [0, 1, 1, 2]


def test_masking_after_the_convolutions_does_not_hide_the_subsampling(tiny_model):
    labels = FrameLabels(tiny_model({"mask_position": "post_conv"}), ["a"])
    assert (labels.factor, labels.shift) == (8, 1)


def test_labelled_audio_is_read_up_to_some_minutes_and_what_cannot_be_used_is_named(tmp_path):
    lines = []
    for name in ("first", "broken", "unlabelled", "second", "third"):
        file = tmp_path / f"{name}.wav"
        soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
        lines.append(json.dumps({"audio_filepath": file.name, "duration": 1.0}))
        if name != "unlabelled":
            write_phones(file, [Phone("a", 0.0, 0.5), Phone("b", 0.5, 1.0)])
    (tmp_path / "broken.wav").write_bytes(b"")
    (tmp_path / "manifest.json").write_text("\n".join(lines))
    labelled, skipped = read_labelled(tmp_path / "manifest.json", AudioReader(16000))
    assert [utterance.phones for utterance in labelled] == [[("a", 0.0, 0.5), ("b", 0.5, 1.0)]] * 3
    assert [skip.what for skip in skipped] == [str(tmp_path / name) for name in ("broken.wav", "unlabelled.wav")]
    assert "its phones cannot be read" in skipped[1].reason
    assert len(read_labelled(tmp_path / "manifest.json", AudioReader(16000), minutes=1.5 / 60)[0]) == 2
