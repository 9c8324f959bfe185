"""What the tests of the demo corpus share: the options of small corpora, and what is in their folders."""

import json
from pathlib import Path

import numpy as np

SMALL = {"minutes": 0.75, "validation_minutes": 0.45, "min_seconds": 6.0, "max_seconds": 12.0, "progress": False}


TINY = {"minutes": 0.1, "validation_minutes": 0.1, "min_seconds": 5.0, "max_seconds": 7.0, "progress": False}


def entries_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def speech_of(corpus) -> list[tuple[Path, dict]]:
    entries = entries_of(corpus.train_manifest) + entries_of(corpus.validation_manifest)
    return [(corpus.folder / entry["audio_filepath"], entry) for entry in entries]


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def centroid(audio: np.ndarray) -> float:
    """The mean frequency of the power spectrum, Hz."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    return float(np.sum(power * np.fft.rfftfreq(len(audio), 1 / 16000)) / np.sum(power))
