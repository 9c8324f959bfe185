"""Random segments of noise recordings: as NeMo takes them where it is right, and read once."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from small_corpus import RATE, speech_like, write_audio

from nemo.collections.asr.data import noise_recordings
from nemo.collections.asr.data.noise_recordings import NoiseRecordings, RecordingInMemory, audible_segment, white_noise
from nemo.collections.asr.data.unreadable_files import UnreadableFiles

ALPHA = 1e-4
"""Error rate of each statistical test: how often it would fail with other seeds although all is right."""


def recording(file, samples, rate=RATE, **entry) -> dict:
    return {"audio_filepath": str(write_audio(file, samples, rate, subtype="FLOAT")), **entry}


def ramp(samples: int) -> np.ndarray:
    """Every sample says where it is: sample n is n + 1."""
    return np.arange(1.0, samples + 1)


def reads_of(monkeypatch) -> list[int]:
    """How many frames each reading of a file asks for."""
    frames: list[int] = []
    read = noise_recordings.read_frames

    def counted(sound, start, length):
        frames.append(length)
        return read(sound, start, length)

    monkeypatch.setattr(noise_recordings, "read_frames", counted)
    return frames


@pytest.mark.parametrize("cache_mb", [0, 10])
def test_all_recordings_are_equally_likely(tmp_path, cache_mb):
    entries = [recording(tmp_path / f"{value}.wav", np.full(50 * value, float(value))) for value in range(1, 6)]
    recordings = NoiseRecordings(entries, cache_mb)
    np.random.seed(0)
    counts = np.bincount([int(recordings.sample(20, 60, RATE)[0]) for _ in range(2000)], minlength=6)[1:]
    assert stats.chisquare(counts).pvalue > ALPHA


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("cache_mb", [0, 10])
def test_a_segment_of_a_long_recording_begins_at_any_place_of_nemos_window(tmp_path, cache_mb, anywhere):
    recordings = NoiseRecordings([recording(tmp_path / "a.wav", ramp(1000))], cache_mb)
    np.random.seed(1)
    segments = [recordings.sample(100, 400, RATE, anywhere) for _ in range(1500)]
    assert all(np.array_equal(segment, np.arange(100) + segment[0]) for segment in segments)
    generator = np.random.default_rng(0)
    # NeMo's rule, plainly: a window of the utterance's length anywhere, and a part of it from its start or anywhere.
    reference = generator.integers(0, 601, 20000) + (generator.integers(0, 301, 20000) if anywhere else 0)
    assert stats.ks_2samp([segment[0] - 1 for segment in segments], reference).pvalue > ALPHA


def test_a_recording_shorter_than_the_utterance_is_taken_from_its_start(tmp_path):
    recordings = NoiseRecordings([recording(tmp_path / "a.wav", ramp(300))])
    for length, window, expected in ((100, 400, 100), (300, 400, 300), (350, 400, 300)):
        np.testing.assert_array_equal(recordings.sample(length, window, RATE), np.arange(1, expected + 1))
    places = {int(recordings.sample(100, 400, RATE, anywhere=True)[0]) for _ in range(100)}
    assert len(places) > 50 and min(places) >= 1 and max(places) <= 201


@pytest.mark.parametrize("cache_mb", [0, 10])
def test_only_the_part_that_the_manifest_names_is_noise(tmp_path, cache_mb):
    entry = recording(tmp_path / "a.wav", ramp(RATE), offset=0.25, duration=0.5)
    recordings = NoiseRecordings([entry], cache_mb)
    firsts = [recordings.sample(1000, 1000, RATE)[0] for _ in range(200)]
    assert min(firsts) >= 4001 and max(firsts) <= 11001
    assert len(recordings.sample(RATE, RATE, RATE)) == 8000
    beyond = NoiseRecordings([{**entry, "duration": 5.0}], cache_mb)
    assert len(beyond.sample(RATE, RATE, RATE)) == 12000


def test_a_seed_gives_the_same_noise_with_any_cache(tmp_path, corpus):
    entries = [recording(tmp_path / f"{seed}.wav", speech_like(seed, 0.5 + seed)) for seed in range(4)]

    def noise_of(cache_mb):
        recordings = NoiseRecordings(entries, cache_mb)
        np.random.seed(3)
        return np.concatenate([recordings.sample(3000, 20000, RATE) for _ in range(30)])

    expected = noise_of(0)
    for cache_mb in (0, 0.1, 0.2, 10):
        np.testing.assert_array_equal(noise_of(cache_mb), expected)


def test_the_cache_keeps_what_fits_and_no_more(tmp_path, monkeypatch):
    entries = [recording(tmp_path / f"{seed}.wav", speech_like(seed, 1.0)) for seed in range(5)]
    frames = reads_of(monkeypatch)
    recordings = NoiseRecordings(entries, cache_mb=3 * 64000 / 1e6)
    for _ in range(300):
        recordings.sample(100, 100, RATE)
    whole = [length for length in frames if length == RATE]
    assert len(whole) == 3, "three of 64 kB each fit"
    segments = len(frames) - 3
    assert 60 < segments < 180 and set(frames) == {RATE, 100}, "about two in five are read anew, a segment at a time"

    frames.clear()
    none_kept = NoiseRecordings(entries, cache_mb=0)
    for _ in range(50):
        none_kept.sample(100, 100, RATE)
    assert frames == [100] * 50


def test_the_cache_takes_no_more_memory_than_it_may(tmp_path):
    entries = [recording(tmp_path / f"{seed}.wav", speech_like(seed, 5.0)) for seed in range(12)]
    recordings = NoiseRecordings(entries, cache_mb=1.5)
    tracemalloc.start()
    try:
        for _ in range(200):
            recordings.sample(100, 100, RATE)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 1.2e6 < held < 1.6e6


def test_a_segment_whose_sum_is_negative_is_read_once(tmp_path, monkeypatch):
    entry = recording(tmp_path / "a.wav", speech_like(0, 10.0) - 0.01)
    frames = reads_of(monkeypatch)
    segment = NoiseRecordings([entry]).sample(RATE, RATE, RATE)
    assert segment.sum() < 0 and frames == [RATE]


def test_silent_segments_are_refused(tmp_path):
    samples = np.zeros(10000)
    samples[7000:7100] = 0.5
    recordings = NoiseRecordings([recording(tmp_path / "a.wav", samples)])
    assert all(recordings.sample(2000, 2000, RATE).any() for _ in range(50))


def test_white_noise_takes_the_place_of_a_silent_recording_which_is_named_once(tmp_path, warnings_of_nemo):
    recordings = NoiseRecordings([recording(tmp_path / "silent.wav", np.zeros(5000))])
    for _ in range(20):
        segment = recordings.sample(4000, 4000, RATE)
        assert len(segment) == 4000 and 10 ** (-91 / 20) < segment.std() < 10 ** (-46 / 20)
    (warning,) = warnings_of_nemo
    assert "silent.wav is silent where it was read" in warning


def test_levels_of_white_noise_are_nemos():
    generator = np.random.default_rng(0)
    levels = [round(20 * np.log10(white_noise(4000, generator).std())) for _ in range(600)]
    assert min(levels) == -90 and max(levels) == -47
    assert stats.chisquare(np.bincount(np.array(levels) + 90, minlength=44)).pvalue > ALPHA


def bad_recordings(folder) -> list[dict]:
    with_nan = speech_like(0, 0.5)
    with_nan[:] = np.nan
    (folder / "text.wav").write_text("no audio")
    return [
        recording(folder / "empty.wav", np.zeros(0)),
        recording(folder / "nan.wav", with_nan),
        {"audio_filepath": str(folder / "text.wav")},
        {"audio_filepath": str(folder / "vanished.wav")},
    ]


@pytest.mark.parametrize("cache_mb", [0, 10])
def test_an_unusable_recording_is_named_once_and_another_is_taken(tmp_path, warnings_of_nemo, cache_mb):
    good = recording(tmp_path / "good.wav", np.full(3000, 0.25))
    unreadable = UnreadableFiles()
    recordings = NoiseRecordings([*bad_recordings(tmp_path), good], cache_mb, unreadable)
    np.random.seed(0)
    for _ in range(60):
        np.testing.assert_array_equal(recordings.sample(1000, 2000, RATE), np.full(1000, 0.25))
    assert unreadable.count == len(warnings_of_nemo) == 4
    for name in ("empty.wav", "nan.wav", "text.wav", "vanished.wav"):
        assert sum(f"{name} cannot be used and is left out" in warning for warning in warnings_of_nemo) == 1


@pytest.mark.parametrize("cache_mb", [0, 10])
def test_what_was_found_unusable_before_changes_no_noise(tmp_path, warnings_of_nemo, cache_mb):
    entries = [*bad_recordings(tmp_path), *[recording(tmp_path / f"{seed}.wav", ramp(2000) * seed) for seed in (1, 2)]]
    half_bad = ramp(4000)
    half_bad[2000:] = np.nan
    recordings = NoiseRecordings([*entries, recording(tmp_path / "half.wav", half_bad)], cache_mb)
    epochs = []
    for _ in range(3):
        np.random.seed(5)
        epochs.append(np.concatenate([recordings.sample(100, 500, RATE) for _ in range(50)]))
    np.testing.assert_array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])


@pytest.mark.parametrize("cache_mb", [0, 10])
def test_without_a_usable_recording_there_is_no_noise_and_one_warning(tmp_path, warnings_of_nemo, cache_mb):
    recordings = NoiseRecordings(bad_recordings(tmp_path), cache_mb)
    assert all(len(recordings.sample(1000, 2000, RATE)) == 0 for _ in range(5))
    assert [warning for warning in warnings_of_nemo if "No usable one was found among 4" in warning]
    assert len(warnings_of_nemo) == 5
    assert len(NoiseRecordings([]).sample(10, 10, RATE)) == 0


def test_unusable_noise_stops_where_an_option_says_so(tmp_path):
    recordings = NoiseRecordings(bad_recordings(tmp_path), 0, UnreadableFiles("raise"))
    with pytest.raises(RuntimeError, match="wav cannot be used: .*unreadable_audio: skip"):
        recordings.sample(1000, 2000, RATE)


@pytest.mark.slow
def test_several_channels_are_averaged_and_rates_are_converted(tmp_path):
    left, right = speech_like(0, 1.0, 8000), speech_like(1, 1.0, 8000)
    stereo = recording(tmp_path / "a.wav", np.stack([left, right], axis=1), 8000)
    mono = recording(tmp_path / "b.wav", (left + right) / 2, 8000)
    for cache_mb in (0, 10):
        np.random.seed(0)
        heard = NoiseRecordings([stereo], cache_mb).sample(RATE, RATE, RATE)
        np.random.seed(0)
        np.testing.assert_allclose(heard, NoiseRecordings([mono], cache_mb).sample(RATE, RATE, RATE), atol=1e-6)
        assert len(heard) == RATE
        assert len(NoiseRecordings([mono], cache_mb).sample(777, 5000, RATE)) == 777


def test_any_length_of_a_recording_at_another_rate_is_given(tmp_path):
    recordings = NoiseRecordings([recording(tmp_path / "a.wav", speech_like(0, 1.0, 44100), 44100)])
    for length in (1, 2, 3, 100, 7919, 15999, 16000):
        assert len(recordings.sample(length, length, RATE)) == length


def test_a_bad_cache_size_is_refused_by_name():
    for size, error in ((-1, ValueError), ("64", TypeError), (float("nan"), ValueError), (True, TypeError)):
        with pytest.raises(error, match="noise_cache_mb must be a number >= 0; got"):
            NoiseRecordings([], size)


def test_a_silent_recording_is_given_up_after_the_trials():
    places = []

    class Silent(RecordingInMemory):
        def read(self, start, length):
            places.append(start)
            return super().read(start, length)

    silent = Silent(np.zeros(1000, np.float32))
    assert audible_segment(silent, 10, 100, np.random.default_rng(0), trials=7) is None
    assert len(places) == 7
