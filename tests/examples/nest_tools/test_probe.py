"""The linear probe for phones: labels at the right frames, a classifier that works, equal frames live and offline."""

import json

import numpy as np
import pytest
import soundfile
import torch
from nest_tools.audio import AudioReader
from nest_tools.corpus.phones import Phone, write_phones
from nest_tools.probe import LabelledAudio, note, probe, read_labelled, table
from nest_tools.probe.classifier import LinearProbe
from nest_tools.probe.frames import offline_frames, streamed_frames
from nest_tools.probe.labels import FrameLabels


def speech(seconds: float, phones: list[tuple[str, float, float]], seed: int = 0) -> LabelledAudio:
    generator = torch.Generator().manual_seed(seed)
    return LabelledAudio(0.1 * torch.randn(int(16000 * seconds), generator=generator), phones)


PHONES = [("a", 0.3 * n, 0.3 * n + 0.15) if n % 2 else ("b", 0.3 * n, 0.3 * n + 0.3) for n in range(8)]


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


def test_the_probe_finds_what_can_be_found_linearly_and_no_more():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(3000, 5, generator=generator)
    labels = frames[:, :3].argmax(1)
    guessed = torch.randint(0, 3, labels.shape, generator=generator)
    assert LinearProbe(frames[:2000], labels[:2000]).accuracy(frames[2000:], labels[2000:]) > 0.95
    assert LinearProbe(frames[:2000], guessed[:2000]).accuracy(frames[2000:], guessed[2000:]) < 0.42


def test_frames_without_a_phone_do_not_count():
    frames = torch.eye(2).repeat(50, 1)
    labels = torch.tensor([0, 1]).repeat(50)
    odd = torch.cat([frames, 100 * torch.ones(7, 2)])
    fitted = LinearProbe(odd, torch.cat([labels, torch.full((7,), -1)]))
    assert fitted.accuracy(odd, torch.cat([labels, torch.full((7,), -1)])) == 1.0


def test_the_classifier_minimises_cross_entropy_and_its_penalty():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(400, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1]) + 5
    labels = (frames[:, 0] - 5 + torch.randn(400, generator=generator) > 0).long()
    inputs = (frames - frames.mean(0)) / frames.std(0, correction=0)
    weight, bias = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, labels) + 1e-4 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    expected = ((inputs @ weight.T + bias).argmax(1) == labels).double().mean()
    assert LinearProbe(frames, labels).accuracy(frames, labels) == pytest.approx(float(expected), abs=0.006)


def test_live_frames_score_as_offline_frames_do(tiny_model):
    model = tiny_model()
    train, test = [speech(2.4, PHONES, seed) for seed in range(3)], [speech(2.4, PHONES, 9)]
    rows = probe(model, train, test, [[8, 0], [-1, 0]], progress=False)
    assert [row["frames"] for row in rows] == ["[8, 0]", "[-1, 0]", "log-mels", "most frequent phone"]
    assert all(row["online"] == row["offline"] for row in rows[:2])
    assert 0.5 < rows[3]["offline"] < 1
    assert all(0 < row["last_layer"] <= 1 for row in rows[:2])
    assert f"| [8, 0] | {100 * rows[0]['offline']:.1f} % |" in table(rows)
    assert "of 2 phones: fitted on 0 minutes" in note(rows, train, test, 16000)


@pytest.mark.parametrize("layers", [1, 3])
def test_frames_are_the_outputs_of_all_layers_live_as_offline(layers, tiny_model):
    model = tiny_model({"encoder.n_layers": layers}).eval()
    audio = speech(2.4, []).audio
    offline, live = offline_frames(model, audio, [8, 0]), streamed_frames(model, audio, [8, 0])
    assert len(offline) == len(live) == layers
    for given, expected in zip(live, offline, strict=True):
        assert given.shape == (31, model.cfg.encoder.d_model)
        torch.testing.assert_close(given, expected, atol=1e-4, rtol=0)
    assert layers == 1 or not torch.equal(offline[0], offline[-1])


def test_chunks_are_streamed_whole_and_what_cannot_stream_says_why(tiny_model):
    train, test = [speech(2.4, PHONES, 0)], [speech(2.4, PHONES, 9)]
    style = {"encoder.att_context_style": "chunked_limited", "encoder.att_context_size": [[14, 6], [14, 13]]}
    chunked = probe(tiny_model(style), train, test, [[14, 6], [14, 13]], baselines=False, progress=False)
    assert all(row["online"] == row["offline"] for row in chunked)
    offline = tiny_model({"encoder.causal_downsampling": False})
    row = probe(offline, train, test, [[8, 0]], baselines=False, progress=False)[0]
    assert row["online"] is None and "causal_downsampling" in row["not_streamed"] and row["offline"] > 0
    assert "Not streamed: " in note([row], train, test, 16000)
    with pytest.raises(ValueError, match="Did you mean 'low'"):
        probe(offline, train, test, [[8, 0], "lwo"], progress=False)
    with pytest.raises(ValueError, match="test must hold at least one utterance"):
        probe(offline, train, [], [[8, 0]], progress=False)


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
