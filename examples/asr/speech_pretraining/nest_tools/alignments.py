"""Times of phones as corpora have them: `.lab` files of Festival, HTK and Audacity, and Praat's TextGrid."""

import re
from collections.abc import Sequence
from pathlib import Path

from nest_tools.corpus import Phone
from nest_tools.corpus.phones import with_silences

__all__ = ["SUFFIXES", "phones_of", "read_alignment"]

SUFFIXES = (".lab", ".TextGrid")
SILENT = frozenset({"", "pau", "sil", "sp", "spn", "<eps>", "#", "SIL", "_"})
"""What corpora call silence."""

PHONE_TIERS = ("phones", "phone", "phonemes", "phn")
"""Names of the tier of phones in a TextGrid."""

_TOLERANCE = 0.05
"""Seconds by which an alignment may end after its audio; it is cut there."""

_HTK_UNIT = 1e-7
_TOKENS = re.compile(r'"((?:[^"]|"")*)"|\[[^\]]*\]|![^\n]*|(?<![\w.])(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?![\w.])')


def read_alignment(file: Path, tier: str | None = None) -> list[Phone]:
    """The labels of an alignment and their times, in order, as they stand in the file.

    Args:
        file: Festival's `.lab` (lines `end number label` behind a line `#`), HTK's and Audacity's (`start end label`,
            in 100 ns as whole numbers, or in seconds with a decimal point), or a TextGrid, long or short.
        tier: of the TextGrid; None for the first that is called `phones`, `phone`, `phonemes` or `phn`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, or a broken one; it is named, and so is the line.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(f"an alignment must be a file {' or '.join(SUFFIXES)}; got {file}")
    if not file.is_file():
        raise FileNotFoundError(f"an alignment must be a file; got {file}, which does not exist")
    text = _decoded(file)
    return _textgrid(file, text, tier) if file.suffix == ".TextGrid" else _lab(file, text)


def phones_of(labels: Sequence[Phone], seconds: float, file: Path) -> list[Phone]:
    """The phones of an utterance without a gap, each silence called `_`, from 0 to `seconds`.

    Args:
        labels: as from `read_alignment`.
        seconds: duration of the audio.
        file: what the error messages name.

    Raises:
        ValueError: labels that overlap, end before they begin, or run past the audio.
    """
    end = 0.0
    kept: list[Phone] = []
    for label in labels:
        if label.end < label.start or label.start < end - 1e-6:
            raise ValueError(
                f"labels of an alignment must follow one another; got {label.label!r} from {label.start} to "
                f"{label.end} s after {end} s in {file}"
            )
        if label.end > seconds + _TOLERANCE:
            raise ValueError(
                f"an alignment must end with its audio, at {seconds:.3f} s; got {label.label!r} until {label.end} s "
                f"in {file}"
            )
        end = label.end
        if label.label not in SILENT and min(label.end, seconds) > label.start:
            kept.append(label._replace(end=min(label.end, seconds)))
    return with_silences(kept, seconds)


def _decoded(file: Path) -> str:
    content = file.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"an alignment must be text in UTF-8 or UTF-16; got {file} ({error})") from error


def _lab(file: Path, text: str) -> list[Phone]:
    lines = [line.strip() for line in text.splitlines()]
    festival = "#" in lines
    first = lines.index("#") + 1 if festival else 0
    labels, end = [], 0.0
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line:
            continue
        parts = line.split(maxsplit=2)
        try:
            if festival:
                start, end = end, float(parts[0])
            else:
                unit = _HTK_UNIT if parts[0].isdigit() and parts[1].isdigit() else 1.0
                start, end = float(parts[0]) * unit, float(parts[1]) * unit
            labels.append(Phone(parts[2] if len(parts) > 2 else "", start, end))
        except (IndexError, ValueError) as error:
            wanted = "`end number label`" if festival else "`start end label`"
            raise ValueError(
                f"a line of {file.name} must be {wanted}; got {line!r} in line {number} of {file}"
            ) from error
    return labels


def _textgrid(file: Path, text: str, wanted: str | None) -> list[Phone]:
    """A long TextGrid is a short one with keys; without keys and brackets both are the same list of values."""
    tokens = [
        string.replace('""', '"') if number == "" else float(number)
        for string, number in (
            (match[1] or "", match[2] or "") for match in _TOKENS.finditer(text) if match[0][0] not in "[!"
        )
    ]
    names = []
    try:
        if tokens[:2] != ["ooTextFile", "TextGrid"]:
            raise ValueError("it does not begin with ooTextFile and TextGrid")
        place = 5
        for _ in range(int(tokens[4])):
            kind, name, _, _, count = tokens[place : place + 5]
            place += 5
            size = 3 if kind == "IntervalTier" else 2
            rows = [tokens[place + size * row :][:size] for row in range(int(count))]
            place += size * int(count)
            names.append(name)
            if kind == "IntervalTier" and (name == wanted or (wanted is None and str(name).lower() in PHONE_TIERS)):
                return [Phone(str(label).strip(), float(start), float(end)) for start, end, label in rows]
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"a TextGrid must be one that Praat wrote; got {file} ({error})") from error
    raise ValueError(
        f"a TextGrid must have the tier of intervals {wanted or ' or '.join(PHONE_TIERS)}; got {names} in {file}"
    )
