"""Audio is read as it comes: any format, rate, part and channel; what cannot be used is said."""

import io

import numpy as np
import pytest
import soundfile
from small_corpus import RATE, speech_like, write_audio

from nemo.collections.asr.data.audio_files import UnreadableAudio, read_audio
from nemo.collections.asr.parts.preprocessing.segment import AudioSegment


@pytest.mark.parametrize(
    "name, subtype",
    [("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "PCM_U8"), ("a.wav", "FLOAT"), ("a.flac", "PCM_16")],
)
def test_a_part_of_a_file_is_that_part_of_what_soundfile_reads(tmp_path, name, subtype):
    file = write_audio(tmp_path / name, speech_like(0, 2.0), subtype=subtype)
    whole, _ = soundfile.read(file, dtype="float32")
    np.testing.assert_array_equal(read_audio(file, RATE), whole)
    np.testing.assert_array_equal(read_audio(file, RATE, offset=0.5, duration=0.75), whole[8000:20000])
    np.testing.assert_array_equal(read_audio(file, RATE, offset=1.5, duration=9.0), whole[24000:])
    assert read_audio(file, RATE).dtype == np.float32


@pytest.mark.parametrize(
    "name, format, subtype", [("a.mp3", "MP3", None), ("a.opus", "OGG", "OPUS"), ("a.ogg", "OGG", "VORBIS")]
)
def test_compressed_audio_is_read_and_resampled(tmp_path, name, format, subtype):
    if format not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {format}")
    time = np.arange(48000) / 24000
    file = write_audio(tmp_path / name, 0.3 * np.sin(2 * np.pi * 440 * time), 24000, format=format, subtype=subtype)
    samples = read_audio(file, RATE, offset=0.5, duration=1.0)
    assert abs(len(samples) - RATE) <= 1
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(spectrum.argmax() * RATE / len(samples) - 440) < 2


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_other_rates_are_resampled_as_nemo_does(tmp_path, rate):
    file = write_audio(tmp_path / "a.wav", speech_like(1, 1.5, rate), rate)
    theirs = AudioSegment.from_file(str(file), target_sr=RATE, offset=0.25, duration=1.0)
    np.testing.assert_allclose(read_audio(file, RATE, 0.25, 1.0), theirs.samples, atol=1e-6)


def test_a_list_of_files_is_a_file_of_several_channels(tmp_path):
    files = [str(write_audio(tmp_path / f"{seed}.wav", speech_like(seed, 1.0))) for seed in range(2)]
    channels = [read_audio(file, RATE) for file in files]
    np.testing.assert_array_equal(read_audio(files, RATE, channel_selector=1), channels[1])
    np.testing.assert_allclose(read_audio(files, RATE, channel_selector="average"), np.mean(channels, 0), atol=1e-7)


def test_stereo_needs_a_channel_selector_and_the_error_names_file_and_option(tmp_path):
    samples = np.stack([speech_like(0, 1.0), speech_like(1, 1.0)], axis=1)
    file = write_audio(tmp_path / "stereo.wav", samples, subtype="FLOAT")
    with pytest.raises(
        ValueError, match=r"channel_selector must be 'average' or a channel from 0 to 1 for .*stereo\.wav"
    ):
        read_audio(file, RATE)
    for selector, expected in (
        (0, samples[:, 0]),
        (1, samples[:, 1]),
        ([1], samples[:, 1]),
        ("average", samples.mean(1)),
    ):
        np.testing.assert_allclose(read_audio(file, RATE, channel_selector=selector), expected, atol=1e-6)
    for selector in (2, -1, [0, 1], [], "left", True, "0"):
        with pytest.raises(ValueError, match=r"stereo\.wav, which has 2 channels; got"):
            read_audio(file, RATE, channel_selector=selector)


def test_mono_has_channel_0_and_is_its_own_average(tmp_path):
    file = write_audio(tmp_path / "mono.wav", speech_like(0, 1.0))
    for selector in (None, 0, "average", [0]):
        assert len(read_audio(file, RATE, channel_selector=selector)) == RATE
    with pytest.raises(ValueError, match="channel_selector must be 0, 'average' or null for .*mono.wav"):
        read_audio(file, RATE, channel_selector=1)


def test_what_cannot_be_used_says_why(tmp_path):
    good = write_audio(tmp_path / "good.wav", speech_like(0, 1.0))
    with_nan, with_infinity = speech_like(0, 1.0), speech_like(0, 1.0)
    with_nan[5000], with_infinity[7000] = np.nan, np.inf
    (tmp_path / "text.wav").write_text("no audio at all")
    (tmp_path / "empty.wav").write_bytes(b"")
    flac = write_audio(tmp_path / "whole.flac", speech_like(0, 1.0)).read_bytes()
    (tmp_path / "cut.flac").write_bytes(flac[: len(flac) // 2])
    cases = {
        tmp_path / "missing.wav": "does not exist",
        tmp_path / "text.wav": "Format not recognised",
        tmp_path / "empty.wav": "Format not recognised",
        tmp_path / "cut.flac": ".",
        write_audio(tmp_path / "nothing.wav", np.zeros(0)): "no samples",
        write_audio(tmp_path / "nan.wav", with_nan, subtype="FLOAT"): "NaN or infinite",
        write_audio(tmp_path / "infinite.wav", with_infinity, subtype="FLOAT"): "NaN or infinite",
    }
    for file, reason in cases.items():
        with pytest.raises(UnreadableAudio, match=reason):
            read_audio(file, RATE)
    with pytest.raises(UnreadableAudio, match="no samples"):
        read_audio(good, RATE, offset=5.0)


def test_loud_samples_are_not_taken_for_infinite_ones(tmp_path):
    file = write_audio(tmp_path / "loud.wav", np.full(1000, 1e25), subtype="DOUBLE")
    assert read_audio(file, RATE)[0] == np.float32(1e25)


class CountedReading(io.BytesIO):
    """A file that counts what is read of it."""

    read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data

    def readinto(self, buffer) -> int:
        size = super().readinto(buffer)
        self.read_bytes += size
        return size


def test_of_a_long_file_only_the_part_is_read(tmp_path):
    file = write_audio(tmp_path / "long.wav", speech_like(0, 60.0))
    counted = CountedReading(file.read_bytes())
    samples = read_audio(counted, RATE, offset=40.0, duration=1.0, name="long.wav")
    np.testing.assert_array_equal(samples, read_audio(file, RATE)[640000:656000])
    assert 32000 <= counted.read_bytes < 60000 < file.stat().st_size / 10
