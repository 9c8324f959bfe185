"""Where live audio comes from: files, standard input, a microphone."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from nest_tools.audio import AudioReader
from nest_tools.utterances import Utterance, distinct_names

STDIN, MICROPHONE = "-", "mic"


class RecordingDevice(AbstractContextManager, Protocol):
    """A device that records while its context is open."""

    def read(self, frames: int) -> tuple[np.ndarray, bool]:
        """The next samples, [frames, channels], and whether some were lost before them."""


def source_names(sources: Sequence[str]) -> list[str]:
    """What the results of the sources are called, each by a name of its own."""
    named = {STDIN: "stdin", MICROPHONE: "microphone"}
    return distinct_names([named.get(source, Path(source).stem) for source in sources])


def open_source(source: str, reader: AudioReader, chunk: int) -> tuple[Iterator[np.ndarray], int | None]:
    """Pieces of `chunk` mono samples in [-1, 1], the last one shorter, and how many samples there are, if known.

    Args:
        source: an audio file, `-` for raw 16-bit PCM (little-endian, mono) on standard input, `mic` for a microphone.
        reader: reads files.
        chunk: samples in a piece.

    Raises:
        UnusableAudio: as `AudioReader.read`.
        ImportError: as `check_microphone`.
    """
    if source == STDIN:
        return _raw_pcm(chunk), None
    if source == MICROPHONE:
        device = check_microphone(reader.sample_rate).InputStream(
            samplerate=reader.sample_rate, channels=1, blocksize=chunk, dtype="float32"
        )
        return _recorded(device, chunk), None
    samples = reader.read(Utterance.of_file(source))
    return (samples[begin : begin + chunk] for begin in range(0, len(samples), chunk)), len(samples)


def check_microphone(rate: int) -> ModuleType:
    """The package that records.

    Raises:
        ImportError: it is not installed; the message says what to do.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise ImportError(
            "a microphone needs the package sounddevice (pip install sounddevice) and PortAudio; or pipe raw PCM in: "
            f"arecord -f S16_LE -r {rate} -c 1 -t raw | ... -"
        ) from error
    return sounddevice


def _raw_pcm(chunk: int) -> Iterator[np.ndarray]:
    while piece := sys.stdin.buffer.read(2 * chunk):
        yield np.frombuffer(piece[: len(piece) // 2 * 2], dtype="<i2").astype(np.float32) / 32768


def _recorded(device: RecordingDevice, chunk: int) -> Iterator[np.ndarray]:
    """Pieces until the user presses Ctrl-C."""
    print("Recording; Ctrl-C ends it.", file=sys.stderr)
    try:
        with device:
            while True:
                yield device.read(chunk)[0][:, 0]
    except KeyboardInterrupt:
        return
