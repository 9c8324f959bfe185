"""The reader of audio: samples that are read, and files that are refused with a reason."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import soundfile
from nest_tools.audio import AudioReader, UnusableAudio, add_convert_option
from nest_tools.utterances import Skipped, Utterance

RATE = 16000


@pytest.fixture
def samples() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


def read(file: Path, offset: float = 0.0, duration: float | None = None, **options) -> np.ndarray:
    return AudioReader(RATE, **options).read(Utterance(file.stem, file, offset, duration))


@pytest.mark.parametrize(
    ("ending", "subtype", "error"),
    [
        ("wav", "PCM_16", 4e-5),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "PCM_U8", 8e-3),
        ("wav", "FLOAT", 0.0),
        ("wav", "DOUBLE", 0.0),
        ("flac", "PCM_16", 4e-5),
        ("aiff", "PCM_16", 4e-5),
        ("ogg", "VORBIS", 0.2),
    ],
)
def test_samples_of_every_format_are_float32_scaled_to_1(ending, subtype, error, samples, tmp_path):
    file = tmp_path / f"speech.{ending}"
    soundfile.write(file, samples, RATE, subtype=subtype)
    read_samples = read(file)
    assert read_samples.dtype == np.float32 and read_samples.shape == (RATE,)
    np.testing.assert_allclose(read_samples, samples, rtol=0, atol=error)


def test_a_piece_is_read_by_offset_and_duration(samples, tmp_path):
    file = tmp_path / "speech.wav"
    soundfile.write(file, samples, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read(file, 0.25, 0.5), samples[4000:12000])
    np.testing.assert_array_equal(read(file, 0.25), samples[4000:])
    np.testing.assert_array_equal(read(file, 0.0, 1.05), samples)  # a duration that was rounded up


def test_channels_and_rates_are_refused_unless_they_are_to_be_converted(samples, tmp_path):
    stereo, slow = tmp_path / "stereo.wav", tmp_path / "slow.wav"
    soundfile.write(stereo, np.stack([samples, 0.5 * samples], axis=1), RATE, subtype="FLOAT")
    soundfile.write(slow, np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000), 8000, subtype="FLOAT")
    with pytest.raises(UnusableAudio, match="must have 1 channel at 16000 Hz; got 2 at 16000 Hz; --convert averages"):
        read(stereo)
    with pytest.raises(UnusableAudio, match="got 1 at 8000 Hz"):
        read(slow)
    np.testing.assert_allclose(read(stereo, convert=True), 0.75 * samples, atol=1e-7)
    resampled = read(slow, convert=True)
    expected = np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)
    assert resampled.shape == (RATE,) and np.abs(resampled - expected)[500:-500].max() < 1e-2


def write_bytes(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def unusable(folder: Path, samples: np.ndarray) -> dict[str, str]:
    """Files that cannot be used, by name, with the reason."""
    whole = folder / "whole.wav"
    soundfile.write(whole, samples, RATE)
    content = whole.read_bytes()
    write_bytes(folder / "nothing.wav", b"")
    write_bytes(folder / "text.wav", b"this is no audio\n" * 100)
    write_bytes(folder / "cut_header.wav", content[:20])
    write_bytes(folder / "cut_samples.wav", content[:10000])
    soundfile.write(folder / "no_samples.wav", samples[:0], RATE)
    broken = samples.copy()
    broken[100] = np.nan
    soundfile.write(folder / "nan.wav", broken, RATE, subtype="FLOAT")
    soundfile.write(folder / "unscaled.wav", 32768 * samples, RATE, subtype="FLOAT")
    for ending in ("flac", "mp3"):
        soundfile.write(folder / f"whole.{ending}", samples, RATE)
        encoded = (folder / f"whole.{ending}").read_bytes()
        write_bytes(folder / f"cut.{ending}", encoded[: len(encoded) // 2])
    return {
        "missing.wav": "the file does not exist",
        "nothing.wav": "the file is empty",
        "text.wav": "cannot be read as audio",
        "cut_header.wav": "cannot be read as audio",
        "cut_samples.wav": "truncated: its header announces 32000 bytes, but 9956 are there",
        "no_samples.wav": "holds no samples",
        "nan.wav": "samples must be finite",
        "unscaled.wav": r"samples must be scaled to \[-1, 1\]; got a peak of \d+",
        "cut.flac": "cannot be read as audio",
        "cut.mp3": "truncated: 1.00 s were announced",
    }


def test_what_cannot_be_used_is_refused_with_the_reason(samples, tmp_path):
    for name, reason in unusable(tmp_path, samples).items():
        with pytest.raises(UnusableAudio, match=reason):
            read(tmp_path / name)


def test_a_piece_that_the_file_does_not_hold_is_refused(samples, tmp_path):
    soundfile.write(tmp_path / "speech.wav", samples, RATE)
    with pytest.raises(UnusableAudio, match="begins at 1 s, but the file ends at 1 s"):
        read(tmp_path / "speech.wav", offset=1.0)
    with pytest.raises(UnusableAudio, match=r"truncated: 2\.00 s were announced, but 1\.00 s are there"):
        read(tmp_path / "speech.wav", duration=2.0)


def test_a_header_that_was_never_finished_does_not_matter(samples, tmp_path):
    file = tmp_path / "recorded.wav"
    soundfile.write(file, samples, RATE)
    content = bytearray(file.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as programs write it that record to a pipe
    np.testing.assert_allclose(read(write_bytes(file, bytes(content))), samples, rtol=0, atol=4e-5)


def test_the_good_ones_are_read_and_the_others_collected(samples, tmp_path):
    reasons = unusable(tmp_path, samples)
    utterances = [Utterance.of_file(tmp_path / name) for name in ("whole.wav", *reasons, "whole.flac")]
    skipped = [Skipped("earlier", "reason")]
    good = [utterance.path.name for utterance, _ in AudioReader(RATE).read_each(utterances, skipped)]
    assert good == ["whole.wav", "whole.flac"]
    assert [skip.what for skip in skipped[1:]] == [str(tmp_path / name) for name in reasons]


def test_the_option_is_off_unless_it_is_given():
    parser = argparse.ArgumentParser()
    add_convert_option(parser)
    given = [parser.parse_args(arguments).convert for arguments in ([], ["--convert"], ["--no-convert"])]
    assert given == [False, True, False]
