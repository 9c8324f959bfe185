"""Recorded speech with known phones as a folder that training and probes read: manifests, audio, times of phones."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
from tqdm import tqdm

from nest_tools.alignments import SUFFIXES, phones_of, read_alignment
from nest_tools.command import write_text
from nest_tools.corpus.phones import write_phones
from nest_tools.utterances import read_manifest

__all__ = ["AlignedUtterance", "festvox", "from_manifest", "write_aligned_corpus"]

SPLITS = ("train", "validation", "test")
_TRANSCRIPT = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')


@dataclass(frozen=True)
class AlignedUtterance:
    """A recording, its words and its alignment."""

    audio: Path
    text: str
    alignment: Path
    split: str
    """`train`, `validation` or `test`."""


def festvox(folder: Path) -> list[AlignedUtterance]:
    """The utterances of a voice built for Festival (clunits), such as Debian's unpacked package festvox-ru.

    The split is fixed: of 12 utterances in a row one is for validation and two are for test.

    Args:
        folder: that of the voice, or any folder above it.

    Raises:
        ValueError: there is no voice, or more than one; a transcript without its audio or alignment.
    """
    found = sorted(folder.rglob("etc/txt.done.data")) if folder.is_dir() else []
    if len(found) != 1:
        raise ValueError(
            f"FOLDER must hold one voice, with etc/txt.done.data, wav/*.wav and lab/*.lab; got {folder}, with "
            f"{len(found)} of them"
        )
    voice = found[0].parents[1]
    utterances: list[AlignedUtterance] = []
    for number, line in enumerate(found[0].read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        match = _TRANSCRIPT.fullmatch(line.strip())
        if match is None:
            raise ValueError(f'a line of txt.done.data must be ( NAME "TEXT" ); got {line[:80]!r} in line {number}')
        name, text = match.groups()
        audio, alignment = voice / "wav" / f"{name}.wav", voice / "lab" / f"{name}.lab"
        for file in (audio, alignment):
            if not file.is_file():
                raise ValueError(f"each transcript must have its audio and its alignment; got none in {file}")
        place = len(utterances) % 12
        split = "validation" if place == 3 else "test" if place in (5, 11) else "train"
        utterances.append(AlignedUtterance(audio, words_of(text), alignment, split))
    return utterances


def words_of(text: str) -> str:
    """A transcript in lower case without punctuation and without marks of stress (`+`)."""
    text = text.lower().replace("+", "")
    return " ".join(re.sub(r"[^\w\s'-]|_", " ", text).replace(" - ", " ").split()).strip("- ")


def from_manifest(manifest: Path, alignments: Path, split: str) -> list[AlignedUtterance]:
    """The utterances of a NeMo manifest; the alignment `NAME.TextGrid` or `NAME.lab` of each lies below a folder.

    Raises:
        FileNotFoundError, ValueError: no such manifest or folder, a line that is none, or an utterance without its
            alignment.
    """
    if not alignments.is_dir():
        raise FileNotFoundError(f"--alignments must be a folder; got {alignments}")
    files = {file.stem: file for suffix in SUFFIXES for file in alignments.rglob(f"*{suffix}")}
    utterances, skipped = read_manifest(manifest)
    if skipped:
        raise ValueError(f"a manifest must have an utterance in each line; got {skipped[0]}")
    texts = [
        json.loads(line).get("text", "")
        for line in manifest.read_text(encoding="utf-8-sig").splitlines()
        if line.strip()
    ]
    missing = [utterance.path.stem for utterance in utterances if utterance.path.stem not in files]
    if missing:
        raise ValueError(
            f"--alignments must hold a file {' or '.join(SUFFIXES)} for each utterance; got none for {missing[0]} "
            f"({len(missing)} of {len(utterances)})"
        )
    return [
        AlignedUtterance(utterance.path, text, files[utterance.path.stem], split)
        for utterance, text in zip(utterances, texts, strict=True)
    ]


def write_aligned_corpus(
    utterances: Sequence[AlignedUtterance], out: Path, tier: str | None = None
) -> dict[str, tuple[int, float]]:
    """Writes `SPLIT_manifest.json`, and `SPLIT/NAME.wav` with `SPLIT/NAME.phones.json`, below a folder.

    Audio is linked where the file system can do so, and copied elsewhere. Manifests are written last.

    Args:
        utterances: with different names.
        out: the folder.
        tier: of TextGrids, as in `read_alignment`.

    Returns:
        For each split that there is, its utterances and their seconds.

    Raises:
        ValueError: as `read_alignment` and `phones_of`; audio that cannot be read; two utterances of one name.
    """
    lines: dict[str, list[str]] = {}
    seconds = dict.fromkeys(SPLITS, 0.0)
    names: set[str] = set()
    for utterance in tqdm(utterances, desc="corpus", unit="utterance"):
        name = utterance.audio.name
        if name in names:
            raise ValueError(f"utterances must have different names; got {name} twice")
        names.add(name)
        duration = _seconds(utterance.audio)
        phones = phones_of(read_alignment(utterance.alignment, tier), duration, utterance.alignment)
        audio = out / utterance.split / name
        _link_or_copy(utterance.audio, audio)
        write_phones(audio, phones)
        entry = {"audio_filepath": f"{utterance.split}/{name}", "duration": duration, "text": utterance.text}
        lines.setdefault(utterance.split, []).append(json.dumps(entry, ensure_ascii=False))
        seconds[utterance.split] += duration
    for split, rows in lines.items():
        write_text(out / f"{split}_manifest.json", "\n".join(rows) + "\n")
    return {split: (len(lines[split]), seconds[split]) for split in SPLITS if split in lines}


def _seconds(audio: Path) -> float:
    try:
        return float(soundfile.info(audio).duration)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ValueError(f"audio must be a file that can be read; got {audio} ({error})") from error


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def figures(splits: dict[str, tuple[int, float]]) -> Iterable[str]:
    """A line for each split."""
    return (
        f"{split:10} {count:6} utterances {seconds / 60:8.1f} minutes" for split, (count, seconds) in splits.items()
    )
