"""Reads audio files: only the part that is asked for, as one channel of float32 samples at the rate of the model."""

import os
from collections.abc import Sequence
from typing import BinaryIO

import librosa
import numpy as np
import soundfile

__all__ = ["AudioFile", "ChannelSelector", "UnreadableAudio", "read_audio"]

AudioFile = str | os.PathLike | BinaryIO
ChannelSelector = int | str | Sequence[int] | None


class UnreadableAudio(RuntimeError):
    """Audio that cannot be used. The message says why; whoever asked for the audio knows its name."""


def read_audio(
    file: AudioFile | list[str],
    sample_rate: int,
    offset: float | None = None,
    duration: float | None = None,
    channel_selector: ChannelSelector = None,
    name: str | None = None,
) -> np.ndarray:
    """Reads one channel of a part of a file.

    Args:
        file: a path, an open file, or a list of paths, each of which holds one channel.
        sample_rate: Hz; audio of another rate is resampled.
        offset: seconds before the part; None for 0.
        duration: seconds of the part; None for all that follows. A file that ends before gives what it has.
        channel_selector: of a file with several channels, a channel's number (from 0), or `average`.
        name: what errors call the file; None for `file` itself.

    Returns:
        [N], float32, with at least one sample.

    Raises:
        UnreadableAudio: the file is missing, cannot be decoded, has no samples there, or one that is NaN or infinite.
        ValueError: the channel selector does not fit the file.
    """
    name = str(file) if name is None else name
    if isinstance(file, list):
        channels = [read_audio(path, sample_rate, offset, duration, None, path) for path in file]
        shortest = min(len(channel) for channel in channels)
        return select_channel(np.stack([channel[:shortest] for channel in channels], axis=1), channel_selector, name)
    with open_audio(file) as sound:
        start = int((offset or 0) * sound.samplerate)
        length = int(duration * sound.samplerate) if duration else sound.frames
        samples = select_channel(read_frames(sound, max(start, 0), length), channel_selector, name)
        return usable(resample(samples, sound.samplerate, sample_rate))


def open_audio(file: AudioFile) -> soundfile.SoundFile:
    """Opens a file, whose `frames`, `samplerate` and `channels` are known then.

    Raises:
        UnreadableAudio: it is missing or no audio.
    """
    try:
        return soundfile.SoundFile(file)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        if isinstance(file, (str, os.PathLike)) and not os.path.exists(file):
            raise UnreadableAudio("the file does not exist") from error
        raise UnreadableAudio(str(error)) from error


def read_frames(sound: soundfile.SoundFile, start: int, length: int) -> np.ndarray:
    """Reads up to `length` frames from frame `start` on, float32 [N] or [N, channels], without those before them.

    Raises:
        UnreadableAudio: the file cannot be decoded there.
    """
    # libsndfile turns 16 bit samples into floats several times slower than NumPy; the numbers are the same.
    is_short = sound.subtype == "PCM_16"
    try:
        sound.seek(min(start, sound.frames))
        samples = sound.read(length, dtype="int16" if is_short else "float32")
    except (soundfile.SoundFileError, OSError, MemoryError) as error:
        raise UnreadableAudio(str(error)) from error
    return np.multiply(samples, np.float32(2**-15), dtype=np.float32) if is_short else samples


def select_channel(samples: np.ndarray, selector: ChannelSelector, name: str) -> np.ndarray:
    """One channel [N] of `samples`, [N] or [N, channels].

    Raises:
        ValueError: `selector` leaves several channels, or names one that is not there.
    """
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if channels == 1 and selector in (None, "average"):
        return samples.reshape(-1)
    if selector == "average":
        return samples.mean(axis=1)
    named: Sequence[int] = ()
    if selector is not None and not isinstance(selector, str):
        named = [selector] if isinstance(selector, int) else selector
    if len(named) != 1 or isinstance(named[0], bool) or not 0 <= named[0] < channels:
        allowed = "0, 'average' or null" if channels == 1 else f"'average' or a channel from 0 to {channels - 1}"
        raise ValueError(
            f"channel_selector must be {allowed} for {name}, which has {channels} channel{'s'[: channels != 1]}; "
            f"got {selector!r}. The option belongs to the data set, such as model.train_ds.channel_selector."
        )
    return samples if samples.ndim == 1 else np.ascontiguousarray(samples[:, named[0]])


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Samples [N] at another rate, as NeMo resamples them."""
    return samples if from_rate == to_rate else librosa.core.resample(samples, orig_sr=from_rate, target_sr=to_rate)


def usable(samples: np.ndarray) -> np.ndarray:
    """Returns `samples` [N].

    Raises:
        UnreadableAudio: there are none, or one is NaN or infinite.
    """
    if len(samples) == 0:
        raise UnreadableAudio("it has no samples there")
    # The sum of squares finds one bad sample among all without an array of booleans.
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.dot(samples, samples)
    if not np.isfinite(energy) and not np.isfinite(samples).all():
        raise UnreadableAudio("it has samples that are NaN or infinite")
    return samples
