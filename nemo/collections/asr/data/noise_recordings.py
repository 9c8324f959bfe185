"""Random segments of noise recordings: only what is mixed is read, and recordings that fit are kept in memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import soundfile

from nemo.collections.asr.data.audio_files import UnreadableAudio, open_audio, read_frames, resample, usable
from nemo.collections.asr.data.unreadable_files import UnreadableFiles
from nemo.collections.asr.parts.utils.checks import check_number
from nemo.collections.asr.parts.utils.warn_once import warn_once

__all__ = ["NoiseRecordings", "audible_segment", "open_recording", "white_noise"]

TRIALS = 100
"""How many places of a recording are tried before it counts as silent."""

FAILURES = 20
"""How many recordings that cannot be read one segment is asked of."""


class Recording(Protocol):
    """Noise, of which parts can be read."""

    @property
    def length(self) -> int:
        """In samples."""

    def read(self, start: int, length: int) -> np.ndarray:
        """Samples [length] from sample `start` on."""


@dataclass(frozen=True)
class RecordingInFile:
    """A part of an open file; `start` and `length` are samples at the rate that the noise is wanted at."""

    sound: soundfile.SoundFile
    sample_rate: int
    start: int
    length: int

    def read(self, start: int, length: int) -> np.ndarray:
        """Several channels are averaged.

        Raises:
            UnreadableAudio: the file cannot be decoded there, or has samples that are NaN or infinite.
        """
        rate = self.sound.samplerate
        first = (self.start + start) * rate // self.sample_rate
        frames = read_frames(self.sound, first, -(-length * rate // self.sample_rate))
        samples = frames if frames.ndim == 1 else frames.mean(axis=1)
        return usable(resample(samples, rate, self.sample_rate)[:length])


@dataclass(frozen=True)
class RecordingInMemory:
    """A recording that was read before."""

    samples: np.ndarray

    @property
    def length(self) -> int:
        """In samples."""
        return len(self.samples)

    def read(self, start: int, length: int) -> np.ndarray:
        """A view, not a copy."""
        return self.samples[start : start + length]


@contextmanager
def open_recording(entry: Mapping[str, Any], sample_rate: int) -> Iterator[RecordingInFile]:
    """Opens the part of a file that an entry of a manifest names.

    Args:
        entry: `audio_filepath`; `offset` and `duration` in seconds, where they are not the whole file's.
        sample_rate: Hz, of what will be read.

    Raises:
        UnreadableAudio: the file is missing, no audio, or has no samples there.
    """
    with open_audio(entry["audio_filepath"]) as sound:
        total = sound.frames * sample_rate // sound.samplerate
        start = min(int((entry.get("offset") or 0) * sample_rate), total)
        length = total - start
        if entry.get("duration"):
            length = min(length, int(entry["duration"] * sample_rate))
        if length == 0:
            raise UnreadableAudio("it has no samples there")
        yield RecordingInFile(sound, sample_rate, start, length)


def audible_segment(
    recording: Recording,
    length: int,
    window: int,
    generator: np.random.Generator,
    anywhere: bool = False,
    trials: int = TRIALS,
) -> np.ndarray | None:
    """A random segment that has a sample other than zero; None where `trials` places had none.

    As in NeMo, a window of as many samples as the utterance has is laid at a random place of a longer recording, and
    at the start of a shorter one. The segment begins where the window begins, or anywhere in it.

    Args:
        recording: of at least one sample.
        length: samples that are wanted.
        window: samples of the window, at least `length`.
        generator: chooses the places.
        anywhere: whether the segment begins at a random place of the window.
        trials: how many places may be tried.

    Returns:
        [N], 1 <= N <= length: fewer samples than wanted where the recording has fewer.
    """
    window = min(window, recording.length)
    length = min(length, window)
    for _ in range(trials if recording.length > length else 1):
        start = generator.integers(recording.length - window + 1)
        if anywhere:
            start += generator.integers(window - length + 1)
        segment = recording.read(int(start), length)
        if segment.any():
            return segment
    return None


def white_noise(length: int, generator: np.random.Generator, min_db: int = -90, max_db: int = -46) -> np.ndarray:
    """White noise [length] of a random level, in whole dB from `min_db` up to but not including `max_db`."""
    level = 10 ** (generator.integers(min_db, max_db) / 20)
    return generator.standard_normal(length, dtype=np.float32) * np.float32(level)


class NoiseRecordings:
    """Recordings that noise is taken from, each with the same probability.

    A recording that fits into what is left of the cache is read whole at its first turn, and kept. Of the others only
    the segments are read that are mixed. Nothing leaves a full cache: all recordings are equally likely to come next,
    so that an exchange would gain nothing.

    A single number from NumPy's global random state decides all of a segment, so that the noise of a seed depends
    neither on the cache nor on what was found unreadable before.

    Args:
        entries: of noise manifests, as `read_noise_manifests` returns them.
        cache_mb: memory for recordings that are kept, in MB (10^6 bytes); 0 keeps none. Each worker of a data loader
            has a cache of its own.
        unreadable: told of recordings that cannot be used; another is taken in their place.

    Raises:
        TypeError, ValueError: `cache_mb` is no number >= 0.
    """

    def __init__(
        self, entries: Sequence[dict[str, Any]], cache_mb: float = 0, unreadable: UnreadableFiles | None = None
    ):
        self.entries = entries
        self._free_bytes = check_number("noise_cache_mb", cache_mb, minimum=0) * 1e6
        self._kept: dict[tuple[int, int], RecordingInMemory] = {}
        self._unreadable = unreadable or UnreadableFiles()
        self._unusable: set[int] = set()
        self._silent: set[int] = set()
        self._too_large: set[int] = set()

    def __len__(self) -> int:
        return len(self.entries)

    def sample(
        self, length: int, window: int, sample_rate: int, anywhere: bool = False, max_failures: int = FAILURES
    ) -> np.ndarray:
        """Takes a segment of a random recording; arguments as `audible_segment`, and the rate in Hz.

        Args:
            max_failures: after how many recordings that cannot be read there is no noise.

        Returns:
            [N], float32, N <= length. White noise in place of a recording that is silent. No sample at all, [0], where
            no recording can be used.

        Raises:
            RuntimeError: a recording cannot be used, and `unreadable` is to stop at that.
        """
        seed = np.random.randint(2**31)
        attempt = failures = 0
        while failures < max_failures and len(self._unusable) < len(self.entries):
            generator = np.random.default_rng((seed, attempt))
            attempt += 1
            index = int(generator.integers(len(self.entries)))
            if index in self._unusable:
                continue
            try:
                return self._segment(index, length, window, sample_rate, generator, anywhere)
            except UnreadableAudio as error:
                failures += 1
                self._unreadable.report(self.entries[index]["audio_filepath"], error)
        if self.entries:
            warn_once(self, "no noise", f"No usable one was found among {len(self.entries)} noise recordings.")
        return np.zeros(0, np.float32)

    def _segment(
        self, index: int, length: int, window: int, sample_rate: int, generator: np.random.Generator, anywhere: bool
    ) -> np.ndarray:
        kept = self._kept.get((index, sample_rate)) or self._keep(index, sample_rate)
        opened: AbstractContextManager[Recording]
        opened = nullcontext(kept) if kept else open_recording(self.entries[index], sample_rate)
        with opened as recording:
            trials = 1 if index in self._silent else TRIALS
            segment = audible_segment(recording, length, window, generator, anywhere, trials)
            if segment is None:
                segment = white_noise(min(length, recording.length), generator)
                self._silent.add(index)
                file = self.entries[index]["audio_filepath"]
                self._unreadable.mention(file, "is silent where it was read; white noise takes its place.")
        return segment

    def _keep(self, index: int, sample_rate: int) -> RecordingInMemory | None:
        """Reads a recording whole if it fits into the cache; None if it does not."""
        if index in self._too_large:
            return None
        try:
            with open_recording(self.entries[index], sample_rate) as recording:
                if recording.length * np.dtype(np.float32).itemsize > self._free_bytes:
                    self._too_large.add(index)
                    return None
                kept = RecordingInMemory(recording.read(0, recording.length))
        except UnreadableAudio:
            self._unusable.add(index)
            raise
        self._free_bytes -= kept.samples.nbytes
        self._kept[index, sample_rate] = kept
        return kept
