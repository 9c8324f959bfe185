"""Utterances: pieces of audio files, named on the command line or in NeMo manifests."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path


@dataclass(frozen=True)
class Utterance:
    """A piece of an audio file."""

    name: str
    """What its results are called."""
    path: Path
    offset: float = 0.0
    """Seconds from the beginning of the file."""
    duration: float | None = None
    """Seconds; None for the rest of the file."""

    @classmethod
    def of_file(cls, file: str | Path) -> "Utterance":
        """A whole file, named after it."""
        return cls(Path(file).stem, Path(file))


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


def read_manifest(manifest: Path) -> tuple[list[Utterance], list[Skipped]]:
    """The utterances of a NeMo manifest (paths in it are relative to it), and the lines that are none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text file.
    """
    if not manifest.is_file():
        raise FileNotFoundError(
            f"a manifest must be a file of JSON lines in UTF-8; got {manifest}, which does not exist"
        )
    try:
        lines = manifest.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"a manifest must be a file of JSON lines in UTF-8; got {manifest} ({error})") from error
    utterances, skipped = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            utterances.append(_entry(json.loads(line), manifest.parent))
        except (ValueError, KeyError, TypeError, AttributeError):
            skipped.append(Skipped(f"{manifest}:{number}", f"no manifest entry of an audio file: {line[:80]}"))
    return utterances, skipped


def _entry(entry: dict, folder: Path) -> Utterance:
    path = folder / Path(entry["audio_filepath"]).expanduser()
    offset, duration = float(entry.get("offset") or 0), float(entry.get("duration") or 0)
    if not (isfinite(offset) and isfinite(duration) and min(offset, duration) >= 0):
        raise ValueError("offset and duration must be seconds >= 0")
    return Utterance(path.stem, path, offset, duration or None)


def read_utterances(files: Iterable[str | Path], manifests: Iterable[Path]) -> tuple[list[Utterance], list[Skipped]]:
    """The utterances of files and manifests, each with a name of its own, and the lines of manifests that are none.

    Raises:
        FileNotFoundError, ValueError: as `read_manifest`.
    """
    utterances, skipped = [Utterance.of_file(file) for file in files], []
    for manifest in manifests:
        found, unread = read_manifest(manifest)
        utterances += found
        skipped += unread
    return with_distinct_names(utterances), skipped


def with_distinct_names(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The utterances in order; where a name was taken already, a number is added to it: `a`, `a-1`, `a-2`."""
    names = distinct_names([utterance.name for utterance in utterances])
    return [replace(utterance, name=name) for utterance, name in zip(utterances, names, strict=True)]


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names in order; the second and later ones of the same name get a number: `a`, `a-1`, `a-2`."""
    taken, repeats, distinct = set(names), dict[str, int](), []
    for name in names:
        if name not in repeats:
            repeats[name] = 0
            distinct.append(name)
            continue
        numbered = name
        while numbered in taken:
            repeats[name] += 1
            numbered = f"{name}-{repeats[name]}"
        taken.add(numbered)
        distinct.append(numbered)
    return distinct


def evenly_spread(utterances: Sequence[Utterance], most: int) -> list[Utterance]:
    """At most `most` of the utterances, evenly spread over all of them."""
    step = max(1.0, len(utterances) / most)
    return [utterances[int(index * step)] for index in range(min(most, len(utterances)))]
