"""Reading audio files: one reader for all scripts, which names what it cannot use."""

import argparse
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from nest_tools.utterances import Skipped, Utterance

MISSING_SECONDS = 0.1
"""How much less audio than announced makes a file a truncated one; manifests round their durations."""

UNSCALED_PEAK = 64.0
"""A peak that no audio scaled to [-1, 1] reaches."""

UNKNOWN_SIZE = 0x7FFF0000
"""Programs that write to a pipe announce at least so many bytes, since they do not know the size yet."""


class UnusableAudio(ValueError):
    """A file that cannot be used; the message says why."""


@dataclass(frozen=True)
class AudioReader:
    """Reads utterances as mono samples at one rate."""

    sample_rate: int
    """Samples per second that the model takes."""
    convert: bool = False
    """Whether to average channels and to resample; otherwise files that need it are refused."""

    def read(self, utterance: Utterance) -> np.ndarray:
        """Samples [N] of an utterance, float32, integer formats scaled to [-1, 1]; N is at least 1.

        Raises:
            UnusableAudio: a file that is missing, empty, truncated or no audio; of other channels or another rate
                without `convert`; an utterance that lies outside the file; samples that are not finite or not scaled.
        """
        if not utterance.path.is_file():
            raise UnusableAudio("the file does not exist")
        if utterance.path.stat().st_size == 0:
            raise UnusableAudio("the file is empty")
        try:
            with soundfile.SoundFile(utterance.path) as file:
                self._check_format(file)
                _check_whole(file)
                samples = _read_part(file, utterance)
                rate = file.samplerate
        except (soundfile.SoundFileError, OSError) as error:
            raise UnusableAudio(f"the file cannot be read as audio: {error}") from error
        _check_samples(samples)
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        if rate != self.sample_rate:
            import librosa

            samples = librosa.resample(samples, orig_sr=rate, target_sr=self.sample_rate)
        return np.ascontiguousarray(samples, dtype=np.float32)

    def read_each(
        self, utterances: Iterable[Utterance], skipped: list[Skipped]
    ) -> Iterator[tuple[Utterance, np.ndarray]]:
        """Every utterance that can be used, with its samples [N]; the others are added to `skipped`."""
        for utterance in utterances:
            try:
                samples = self.read(utterance)
            except UnusableAudio as error:
                skipped.append(Skipped(str(utterance.path), str(error)))
            else:
                yield utterance, samples

    def _check_format(self, file: soundfile.SoundFile) -> None:
        if not self.convert and (file.channels, file.samplerate) != (1, self.sample_rate):
            raise UnusableAudio(
                f"the file must have 1 channel at {self.sample_rate} Hz; got {file.channels} at {file.samplerate} Hz; "
                "--convert averages channels and resamples"
            )


def _check_whole(file: soundfile.SoundFile) -> None:
    """Refuses a file whose header announces more bytes of audio than it holds."""
    for announced, held in re.findall(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info, flags=re.M):
        if int(held) < int(announced) < UNKNOWN_SIZE:
            raise UnusableAudio(f"the file is truncated: its header announces {announced} bytes, but {held} are there")


def _read_part(file: soundfile.SoundFile, utterance: Utterance) -> np.ndarray:
    """Samples [N] or [N, channels] of the utterance."""
    if file.frames == 0:
        raise UnusableAudio("the file holds no samples")
    begin = int(utterance.offset * file.samplerate)
    if begin >= file.frames:
        raise UnusableAudio(
            f"the utterance begins at {utterance.offset:g} s, but the file ends at {file.frames / file.samplerate:g} s"
        )
    wanted = file.frames - begin if utterance.duration is None else int(utterance.duration * file.samplerate)
    file.seek(begin)
    samples = file.read(wanted, dtype="float32")
    if len(samples) < wanted - MISSING_SECONDS * file.samplerate:
        raise UnusableAudio(
            f"the file is truncated: {wanted / file.samplerate:.2f} s were announced, but "
            f"{len(samples) / file.samplerate:.2f} s are there"
        )
    if len(samples) == 0:
        raise UnusableAudio("the utterance holds no samples")
    return samples


def _check_samples(samples: np.ndarray) -> None:
    if not np.isfinite(samples).all():
        raise UnusableAudio("samples must be finite; got NaN or infinite ones")
    peak = np.abs(samples).max()
    if peak > UNSCALED_PEAK:
        raise UnusableAudio(f"samples must be scaled to [-1, 1]; got a peak of {peak:g}")


def add_convert_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--convert` and `--no-convert`, alike for all scripts."""
    parser.add_argument(
        "--convert",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="resample files of other rates and average channels (default: such files are skipped)",
    )
