"""The live script: what it writes and prints, and what it refuses."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import stream_features
import torch
from nest_tools.live import Streamed
from omegaconf import OmegaConf

from nemo.collections.asr.models import EncDecCTCModel
from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> EncDecCTCModel:
    modules = "nemo.collections.asr.modules"
    features = dict(normalize="NA", window_size=0.025, features=16, n_fft=512, pad_to=0, dither=0.0)
    encoder = dict(feat_in=16, n_layers=2, d_model=16, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
    encoder |= dict(subsampling_conv_channels=4, causal_downsampling=True, conv_context_size="causal")
    encoder |= dict(conv_norm_type="layer_norm", conv_kernel_size=5, att_context_size=[[8, 0], [16, 0]])
    config = dict(
        preprocessor=dict(_target_=f"{modules}.AudioToMelSpectrogramPreprocessor", **features),
        encoder=dict(_target_=f"{modules}.ConformerEncoder", **encoder),
        decoder=dict(_target_=f"{modules}.ConvASRDecoder", feat_in=16, num_classes=2, vocabulary=["a", "b"]),
        labels=["a", "b"],
        sample_rate=16000,
    )
    torch.manual_seed(0)
    return EncDecCTCModel(OmegaConf.create(config)).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """A model, and recordings of which some are of another rate or have two channels."""
    folder = tmp_path_factory.mktemp("stream")
    model.save_to(str(folder / "model.nemo"))
    generator = np.random.default_rng(0)
    for name, samples, channels, rate in [
        ("long", 40000, 1, 16000),
        ("short", 700, 1, 16000),
        ("stereo", 30000, 2, 16000),
        ("slow", 20000, 1, 8000),
    ]:
        soundfile.write(folder / f"{name}.wav", 0.1 * generator.standard_normal((samples, channels)), rate)
    return folder


@torch.no_grad()
def offline(model, context, samples: np.ndarray) -> np.ndarray:
    """The encoder's frames [S, D]."""
    with dynamic_context(model, context):
        features, lengths = model.preprocessor(
            input_signal=torch.from_numpy(samples)[None], length=torch.tensor([len(samples)])
        )
        frames, lengths = model.encoder(audio_signal=features, length=lengths)
    return frames[0, :, : lengths[0]].T.numpy()


@pytest.fixture
def streamed(monkeypatch) -> list[Streamed]:
    """What the commands of a test have streamed."""
    results, table = [], stream_features.table

    def kept(of_command, rate):
        results.extend(of_command)
        return table(of_command, rate)

    monkeypatch.setattr(stream_features, "table", kept)
    return results


def run(folder: Path, *arguments: str) -> int:
    """Streams the sources named first, up to the first option."""
    sources = [argument for argument in arguments if argument.endswith(".wav")]
    others = [argument for argument in arguments if argument not in sources]
    given = [str(folder / source) for source in sources]
    return stream_features.main(["--model", str(folder / "model.nemo"), "--device", "cpu", *given, *others])


def test_the_written_frames_are_those_of_the_offline_encoder(model, folder, streamed, tmp_path, capsys):
    assert run(folder, "long.wav", "short.wav", "--context", "low", "--compare", "--out", str(tmp_path)) == 0
    for result, name in zip(streamed, ("long", "short"), strict=True):
        samples, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
        written = np.load(tmp_path / f"{name}.npz")["encoded"]
        assert result.difference < 1e-4
        assert result.samples == len(samples)
        np.testing.assert_allclose(written, offline(model, "low", samples), rtol=0, atol=1e-4)
        assert written.dtype == np.float32
    printed = capsys.readouterr().out
    assert "Context [160, 0], 1 frame(s) a step" in printed
    assert "Algorithmic latency: 12.5 ms" in printed
    assert "| long | 2.50 s | 33 |" in printed


def test_layers_are_written_beside_the_encoders_frames(model, folder, tmp_path):
    run(
        folder, "long.wav", "--context", "8,0", "--layers", "0", "-1", "--frames-per-step", "4", "--out", str(tmp_path)
    )
    written = np.load(tmp_path / "long.npz")
    assert sorted(written) == ["encoded", "layer_0", "layer_1"]
    np.testing.assert_array_equal(written["layer_1"], written["encoded"])
    assert written["layer_0"].shape == written["encoded"].shape
    assert np.abs(written["layer_0"] - written["encoded"]).max() > 0.1


def test_the_first_frame_comes_with_the_first_window(folder, streamed):
    assert run(folder, "long.wav", "--chunk", "0.005") == 0
    (result,) = streamed
    assert result.first_after == 240
    assert 0 < result.first_computing < result.computing


@pytest.mark.parametrize(("name", "said"), [("stereo", "got 2 at 16000 Hz"), ("slow", "got 1 at 8000 Hz")])
def test_other_recordings_are_left_out_unless_converted(folder, name, said, streamed, capsys):
    assert run(folder, f"{name}.wav") == 1
    printed = capsys.readouterr().err
    assert said in printed and "--convert" in printed and not streamed
    assert run(folder, f"{name}.wav", "--convert", "--compare") == 0
    (result,) = streamed
    assert result.difference < 1e-4
    assert result.samples == {"stereo": 30000, "slow": 40000}[name]


def test_raw_pcm_is_read_from_standard_input(model, folder, tmp_path, monkeypatch):
    samples = (3000 * np.random.default_rng(1).standard_normal(20001)).astype("<i2")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(samples.tobytes() + b"\x01")))
    run(folder, "-", "--context", "16,0", "--out", str(tmp_path))
    written = np.load(tmp_path / "stdin.npz")["encoded"]
    expected = offline(model, [16, 0], samples.astype(np.float32) / 32768)
    np.testing.assert_allclose(written, expected, rtol=0, atol=1e-4)


def test_standard_input_without_a_sample_gives_what_the_encoder_gives_of_none(folder, streamed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert run(folder, "-", "--compare") == 0
    assert streamed[0].difference < 1e-4 and "| stdin | 0.00 s | 1 | none |" in capsys.readouterr().out


def test_sources_of_the_same_name_have_files_of_their_own(folder, tmp_path):
    (tmp_path / "long.wav").write_bytes((folder / "short.wav").read_bytes())
    files = [str(folder / "long.wav"), str(tmp_path / "long.wav")]
    out = tmp_path / "out"
    assert (
        stream_features.main(["--model", str(folder / "model.nemo"), "--out", str(out), "--device", "cpu", *files])
        == 0
    )
    frames = [len(np.load(out / name)["encoded"]) for name in ("long.npz", "long-1.npz")]
    assert frames[0] > frames[1] > 0


def test_recorded_speech_streams_as_it_is_encoded_offline(folder, recorded_speech, streamed):
    files = [str(file) for file in sorted(recorded_speech.glob("spk*.wav"))[:2]]
    model = str(folder / "model.nemo")
    assert stream_features.main(["--model", model, "--device", "cpu", "--context", "16,0", "--compare", *files]) == 0
    assert len(streamed) == 2 and all(result.difference < 1e-4 for result in streamed)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["long.wav", "--context", "lwo"], ValueError, "Did you mean 'low'"),
        (["long.wav", "--context", "8,1"], ValueError, "chunked_limited"),
        (["long.wav", "--chunk", "0"], SystemExit, "2"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused(folder, arguments, error, said):
    with pytest.raises(error, match=said):
        run(folder, *arguments)


def test_a_microphone_without_its_package_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ImportError, match="pip install sounddevice"):
        run(folder, "mic")
