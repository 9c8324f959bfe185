"""The live script: what it writes and prints, and what it refuses."""

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from nemo.collections.asr.models import EncDecCTCModel
from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "asr" / "speech_pretraining" / "stream_features.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


stream_features = load_script()


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
        ("empty", 0, 1, 16000),
        ("stereo", 30000, 2, 16000),
        ("slow", 20000, 1, 8000),
    ]:
        soundfile.write(folder / f"{name}.wav", 0.1 * generator.standard_normal((samples, channels)), rate)
    return folder


@torch.no_grad()
def offline(model, context, samples: np.ndarray) -> np.ndarray:
    """The encoder's frames `[T, D]`."""
    with dynamic_context(model, context):
        features, lengths = model.preprocessor(
            input_signal=torch.from_numpy(samples)[None], length=torch.tensor([len(samples)])
        )
        frames, lengths = model.encoder(audio_signal=features, length=lengths)
    return frames[0, :, : lengths[0]].T.numpy()


def run(folder: Path, *arguments: str):
    sources = [argument if argument in ("-", "mic") else str(folder / argument) for argument in arguments[:1]]
    return stream_features.main(["--model", str(folder / "model.nemo"), "--device", "cpu", *arguments[1:], *sources])


def test_the_written_frames_are_those_of_the_offline_encoder(model, folder, tmp_path, capsys):
    results = stream_features.main(
        ["--model", str(folder / "model.nemo"), "--device", "cpu", "--context", "low", "--compare"]
        + ["--out", str(tmp_path), *(str(folder / f"{name}.wav") for name in ("long", "short", "empty"))]
    )
    for result, name in zip(results, ("long", "short", "empty"), strict=True):
        samples, _ = soundfile.read(folder / f"{name}.wav", dtype="float32")
        written = np.load(tmp_path / f"{name}.npz")["encoded"]
        assert result.difference < 1e-4
        assert result.samples == len(samples)
        if len(samples):
            np.testing.assert_allclose(written, offline(model, "low", samples), rtol=0, atol=1e-4)
        assert written.dtype == np.float32
    printed = capsys.readouterr().out
    assert "Context [160, 0], 1 frame(s) a step" in printed
    assert "Algorithmic latency: 12.5 ms" in printed
    assert "| empty | 0.00 s | 1 | none |" in printed
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


def test_the_first_frame_comes_with_the_first_window(folder):
    (result,) = run(folder, "long.wav", "--chunk", "0.005")
    assert result.first_after == 240
    assert 0 < result.first_computing < result.computing


@pytest.mark.slow  # the first conversion compiles the resampler
@pytest.mark.parametrize(("name", "said"), [("stereo", "2 channel.*--convert"), ("slow", "8000 Hz.*--convert")])
def test_other_recordings_are_refused_unless_converted(folder, name, said):
    with pytest.raises(ValueError, match=said):
        run(folder, f"{name}.wav")
    (result,) = run(folder, f"{name}.wav", "--convert", "--compare")
    assert result.difference < 1e-4
    assert result.samples == {"stereo": 30000, "slow": 40000}[name]


def test_raw_pcm_is_read_from_standard_input(model, folder, tmp_path, monkeypatch):
    samples = (3000 * np.random.default_rng(1).standard_normal(20001)).astype("<i2")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(samples.tobytes() + b"\x01")))
    run(folder, "-", "--context", "16,0", "--out", str(tmp_path))
    written = np.load(tmp_path / "stdin.npz")["encoded"]
    expected = offline(model, [16, 0], samples.astype(np.float32) / 32768)
    np.testing.assert_allclose(written, expected, rtol=0, atol=1e-4)


def test_recorded_speech_streams_as_it_is_encoded_offline(folder, recorded_speech):
    files = [str(file) for file in sorted(recorded_speech.glob("spk*.wav"))[:2]]
    results = stream_features.main(
        ["--model", str(folder / "model.nemo"), "--device", "cpu", "--context", "16,0", "--compare", *files]
    )
    assert len(results) == 2 and all(result.difference < 1e-4 for result in results)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["missing.wav"], FileNotFoundError, "missing.wav does not exist"),
        (["long.wav", "--context", "lwo"], ValueError, "did you mean 'low'"),
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
