"""Phones and their times: what each utterance of the corpus has beside its audio."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

SILENCE = "_"
SILENT_LEVEL = 32  # of 32768
MIN_SILENCE_SECONDS = 0.02


class Phone(NamedTuple):
    """A phone and its time.

    Attributes:
        label: eSpeak NG's name of it, without stress; `"_"` for silence: pauses, and closures of 20 ms and more
            (a few voices have a faint echo, which fills closures).
        start: seconds from the beginning of the file.
        end: seconds; the phones of a file follow one another without a gap.
        stress: 2 primary, 1 secondary, 0 none.
    """

    label: str
    start: float
    end: float
    stress: int = 0


def read_phones(audio_path: str | os.PathLike) -> list[Phone]:
    """The phones of one of the corpus's WAV files, in order, from its first sample to its last."""
    path = Path(audio_path).with_suffix(".phones.json")
    return [Phone(**phone) for phone in json.loads(path.read_text(encoding="utf-8"))]


def write_phones(audio_path: Path, phones: list[Phone]) -> None:
    """Writes what `read_phones` reads."""
    rows = ",\n".join(json.dumps(phone._asdict(), ensure_ascii=False) for phone in phones)
    audio_path.with_suffix(".phones.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def timed_phones(pcm: np.ndarray, marks: list, sample_rate: int) -> list[Phone]:
    """The sounding phones of a sentence.

    The library counts the pause or closure before a phone to the one before. Here a phone ends with its sound.
    """
    ends = [start for start, _ in marks[1:]] + [len(pcm)]
    phones = []
    for (start, mark), limit in zip(marks, ends, strict=True):
        label = mark.lstrip("',%=")
        stress = mark.removesuffix(label)
        sounding = np.flatnonzero(np.abs(pcm[start:limit].astype(int)) > SILENT_LEVEL)
        if label.startswith(SILENCE) or not len(sounding):
            continue
        end = start + int(sounding[-1]) + 1
        if limit - end < MIN_SILENCE_SECONDS * sample_rate:
            end = limit
        phones.append(Phone(label, start / sample_rate, end / sample_rate, 2 if "'" in stress else int("," in stress)))
    return phones


def with_silences(phones: list[Phone], seconds: float) -> list[Phone]:
    """The phones with every gap between them, and at both ends, filled by a silence; rounded to 0.1 ms."""
    filled, end = [], 0.0
    for phone in [*phones, Phone(SILENCE, seconds, seconds)]:
        phone = phone._replace(start=round(phone.start, 4), end=round(phone.end, 4))
        if phone.start > end:
            filled.append(Phone(SILENCE, end, phone.start))
        if phone.end > phone.start:
            filled.append(phone)
        end = phone.end
    return filled
