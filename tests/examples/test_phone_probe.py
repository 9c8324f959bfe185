"""The linear probe for phones: labels at the right frames, a classifier that works, equal frames live and offline."""

import json

import pytest
import torch
from phone_probe import (
    FrameLabels,
    LinearProbe,
    Utterance,
    corpus_of,
    offline_frames,
    probe,
    streamed_frames,
    table,
)

from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context


def speech(seconds: float, phones: list[tuple[str, float, float]], seed: int = 0) -> Utterance:
    generator = torch.Generator().manual_seed(seed)
    return Utterance(0.1 * torch.randn(int(16000 * seconds), generator=generator), phones)


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


def test_the_probe_finds_what_can_be_found_linearly_and_no_more():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(3000, 5, generator=generator)
    labels = frames[:, :3].argmax(1)
    guessed = torch.randint(0, 3, labels.shape, generator=generator)
    assert LinearProbe(frames[:2000], labels[:2000], 3).accuracy(frames[2000:], labels[2000:]) > 0.95
    assert LinearProbe(frames[:2000], guessed[:2000], 3).accuracy(frames[2000:], guessed[2000:]) < 0.42


def test_frames_without_a_phone_do_not_count():
    frames = torch.eye(2).repeat(50, 1)
    labels = torch.tensor([0, 1]).repeat(50)
    odd = torch.cat([frames, 100 * torch.ones(7, 2)])
    one = LinearProbe(odd, torch.cat([labels, torch.full((7,), -1)]), 2)
    assert one.accuracy(odd, torch.cat([labels, torch.full((7,), -1)])) == 1.0


def test_live_frames_score_as_offline_frames_do(tiny_model):
    model = tiny_model()
    phones = [("a", 0.3 * n, 0.3 * n + 0.15) if n % 2 else ("b", 0.3 * n, 0.3 * n + 0.3) for n in range(8)]
    train, test = [speech(2.4, phones, seed) for seed in range(3)], [speech(2.4, phones, 9)]
    rows = probe(model, train, test, [[8, 0], [-1, 0]], progress=False)
    assert [row["frames"] for row in rows] == ["[8, 0]", "[-1, 0]", "log-mels", "most frequent phone"]
    assert all(row["online"] == row["offline"] for row in rows[:2])
    assert 0.5 < rows[3]["offline"] < 1
    assert all(0 < row["last_layer"] <= 1 for row in rows[:2])
    assert "| [8, 0] | " in table(rows, "note") and table(rows, "note").endswith("note")


@pytest.mark.parametrize("layers", [1, 3])
def test_frames_are_the_outputs_of_all_layers_live_as_offline(layers, tiny_model):
    model = tiny_model({"encoder.n_layers": layers}).eval()
    audio = speech(2.4, []).audio
    offline, live = offline_frames(model, audio, [8, 0]), streamed_frames(model, audio, [8, 0])
    width = model.cfg.encoder.d_model
    assert offline.shape == live.shape == (31, layers * width)
    torch.testing.assert_close(live, offline, atol=1e-4, rtol=0)
    with torch.inference_mode(), dynamic_context(model, [8, 0]):
        features, length = model.preprocessor(input_signal=audio[None], length=torch.tensor([len(audio)]))
        encoded, _ = model.encoder(audio_signal=features, length=length)
    torch.testing.assert_close(offline[:, -width:], encoded[0].T)
    assert layers == 1 or not torch.equal(offline[:, :width], offline[:, -width:])


def test_masking_after_the_convolutions_does_not_hide_the_subsampling(tiny_model):
    labels = FrameLabels(tiny_model({"mask_position": "post_conv"}), ["a"])
    assert (labels.factor, labels.shift) == (8, 1)


def test_chunks_are_streamed_whole_and_what_cannot_stream_says_why(tiny_model):
    phones = [("a", 0.3 * n, 0.3 * n + 0.15) if n % 2 else ("b", 0.3 * n, 0.3 * n + 0.3) for n in range(8)]
    train, test = [speech(2.4, phones, 0)], [speech(2.4, phones, 9)]
    style = {"encoder.att_context_style": "chunked_limited", "encoder.att_context_size": [[14, 6], [14, 13]]}
    chunked = probe(tiny_model(style), train, test, [[14, 6], [14, 13]], baselines=False, progress=False)
    assert all(row["online"] == row["offline"] for row in chunked)
    offline = tiny_model({"encoder.causal_downsampling": False})
    row = probe(offline, train, test, [[8, 0]], baselines=False, progress=False)[0]
    assert row["online"] is None and "causal_downsampling is false" in row["not_streamed"] and row["offline"] > 0
    with pytest.raises(ValueError, match="did you mean 'low'"):
        probe(offline, train, test, [[8, 0], "lwo"], progress=False)


def test_a_corpus_that_lacks_files_is_named_and_left_as_it_is(tmp_path):
    (tmp_path / "corpus.json").write_text(json.dumps({"options": {}, "sizes": {"train/00000.wav": 4}}))
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of its files: train/00000\.wav"):
        corpus_of(tmp_path)


def test_a_folder_without_a_corpus_is_named(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({}))
    with pytest.raises(FileNotFoundError, match="holds no corpus"):
        corpus_of(tmp_path)
