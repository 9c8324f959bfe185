"""A folder of noise that is said to have phones, in the shape of the corpora that `aligned_corpus.py` makes."""

import json
from pathlib import Path

from small_corpus import speech_like, write_audio, write_manifest

UTTERANCES = {"train": 6, "validation": 2, "test": 2}
SECONDS = 3.2


def write_phone_corpus(folder: Path, splits: dict[str, int] | None = None) -> Path:
    """Utterances of `SECONDS`, in which the phones `a` and `b` follow one another every 0.4 s."""
    for split, count in (splits or UTTERANCES).items():
        entries = []
        for index in range(count):
            file = write_audio(folder / split / f"{index}.wav", speech_like(100 * len(split) + index, SECONDS))
            phones = [
                {"label": "ab"[place % 2], "start": 0.4 * place, "end": 0.4 * (place + 1), "stress": 0}
                for place in range(8)
            ]
            file.with_suffix(".phones.json").write_text(json.dumps(phones))
            entries.append({"audio_filepath": str(file), "duration": SECONDS, "text": "ab"})
        write_manifest(folder / f"{split}_manifest.json", entries)
    return folder
