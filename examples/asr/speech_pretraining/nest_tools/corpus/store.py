"""The folder of a corpus: made once, whole or not at all, by one process at a time."""

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from filelock import FileLock
from tqdm import tqdm

from nest_tools.command import write_text
from nest_tools.corpus.noise import NOISES, make_noise
from nest_tools.corpus.options import SAMPLE_RATE, Options
from nest_tools.corpus.phones import write_phones
from nest_tools.corpus.plan import UtterancePlan, language_of, plan_corpus
from nest_tools.corpus.speech import espeak_paths, render

SPLITS = ("train", "validation", "noise")
STAMP = "corpus.json"
LOCK = "corpus.lock"
FORMAT = 2  # raise it whenever the same options would give other files


@dataclass(frozen=True)
class Corpus:
    """Where the manifests of a corpus are, and how much there is."""

    folder: Path
    train_manifest: Path
    validation_manifest: Path
    noise_manifest: Path
    train_utterances: int
    validation_utterances: int
    train_seconds: float
    validation_seconds: float
    noise_seconds: float


def make_corpus(
    out_dir: str | os.PathLike,
    *,
    minutes: float = 10.0,
    validation_minutes: float = 2.0,
    seed: int = 0,
    min_seconds: float = 12.0,
    max_seconds: float = 24.0,
    progress: bool = True,
) -> Corpus:
    """Makes the corpus in `out_dir`, or returns at once where it is already there with the same options.

    The same options give the same bytes (with the same versions of eSpeak NG, NumPy and SciPy). A folder that is
    incomplete, or was made with other options, is made anew. Several processes may call this at the same time: one
    makes the corpus, the others wait for it.

    Args:
        out_dir: the corpus's folder, created where it does not exist.
        minutes: speech for training, about; at least one utterance is made.
        validation_minutes: speech for validation, about, by voices that training does not hear.
        seed: decides who says what and how, the pauses and the noises; 0 or more.
        min_seconds: shortest utterance, at least 5 s.
        max_seconds: longest utterance; lengths are spread evenly between the two.
        progress: show a progress bar.

    Raises:
        ValueError, TypeError: an option is out of its range, or `out_dir` holds files that are not a corpus's.
        NotADirectoryError: `out_dir` is a file.
        ImportError: `espeakng-loader` is not installed.
        RuntimeError: the library failed, or gave silence.
    """
    options = Options(minutes, validation_minutes, seed, min_seconds, max_seconds)
    folder = Path(out_dir)
    corpus = _finished(folder, options)
    if corpus is not None:
        return corpus
    _check_folder(folder)
    espeak_paths()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        return _finished(folder, options) or _build(folder, options, progress)


def open_corpus(folder: Path) -> Corpus:
    """The corpus that is in a folder.

    Raises:
        FileNotFoundError: there is none, or files of it are missing; the message names them.
    """
    if not (folder / STAMP).is_file():
        raise FileNotFoundError(
            f"--corpus must be a folder with a corpus; got {folder}, which holds none; demo_corpus.py makes one"
        )
    made = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    missing = [name for name in made["sizes"] if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--corpus must be a folder with a whole corpus; got {folder}, which lacks {len(missing)} of its files: "
            f"{', '.join(missing[:5])}; demo_corpus.py makes one"
        )
    return make_corpus(folder, **made["options"])


def _build(folder: Path, options: Options, progress: bool) -> Corpus:
    _clear(folder)
    train, validation = plan_corpus(options)
    manifests: dict[str, list[dict]] = {split: [] for split in SPLITS}
    count = len(train) + len(validation) + len(NOISES)
    with tqdm(total=count, desc="demo corpus", unit="file", disable=not progress) as bar:
        for plan in (*train, *validation):
            manifests[plan.split].append(_write_utterance(folder, plan))
            bar.update()
        speech_paths = [folder / entry["audio_filepath"] for entry in manifests["train"]]
        for name in NOISES:
            audio = make_noise(name, options.seed, speech_paths)
            manifests["noise"].append({**_write_wav(folder, f"noise/{name}", audio), "text": ""})
            bar.update()
    for split, entries in manifests.items():
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        _manifest(folder, split).write_text("".join(lines), encoding="utf-8")
    totals = _totals(manifests)
    _write_stamp(folder, options, totals)
    return _corpus(folder, totals)


def _write_utterance(folder: Path, plan: UtterancePlan) -> dict:
    """Writes the audio and the phones, returns the line of the manifest."""
    audio, text, phones = render(plan)
    entry = _write_wav(folder, f"{plan.split}/{plan.name}", audio)
    write_phones(folder / entry["audio_filepath"], phones)
    return {**entry, "text": text, "speaker": plan.voice, "lang": language_of(plan.voice)}


def _write_wav(folder: Path, name: str, audio: np.ndarray) -> dict:
    path = folder / f"{name}.wav"
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, audio, SAMPLE_RATE, subtype="PCM_16")
    return {"audio_filepath": f"{name}.wav", "duration": len(audio) / SAMPLE_RATE}


def _manifest(folder: Path, split: str) -> Path:
    return folder / f"{split}_manifest.json"


def _totals(manifests: dict[str, list[dict]]) -> dict[str, Any]:
    """How many utterances there are, and how many seconds of each split."""
    return {
        "train_utterances": len(manifests["train"]),
        "validation_utterances": len(manifests["validation"]),
        **{f"{split}_seconds": sum(entry["duration"] for entry in manifests[split]) for split in manifests},
    }


def _corpus(folder: Path, totals: dict[str, Any]) -> Corpus:
    manifests: dict[str, Any] = {f"{split}_manifest": _manifest(folder, split) for split in SPLITS}
    return Corpus(folder=folder, **manifests, **totals)


def _write_stamp(folder: Path, options: Options, totals: dict[str, Any]) -> None:
    """Says that the folder is complete."""
    paths = [*_own_files(folder), *(_manifest(folder, split) for split in SPLITS)]
    stamp = {
        "format": FORMAT,
        "options": asdict(options),
        "espeakng_loader": importlib.metadata.version("espeakng-loader"),
        "totals": totals,
        "sizes": {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths},
    }
    write_text(folder / STAMP, json.dumps(stamp, indent=1))


def _finished(folder: Path, options: Options) -> Corpus | None:
    """The corpus of these options in this folder, None if it is not there or not whole."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        if stamp["format"] != FORMAT or stamp["options"] != asdict(options):
            return None
        if any((folder / name).stat().st_size != size for name, size in stamp["sizes"].items()):
            return None
        return _corpus(folder, stamp["totals"])
    except (OSError, ValueError, KeyError, TypeError):  # no stamp, a file is gone, or the stamp is not ours
        return None


def _own_files(folder: Path) -> list[Path]:
    return sorted(
        path for split in SPLITS for pattern in ("*.wav", "*.phones.json") for path in (folder / split).glob(pattern)
    )


def _check_folder(folder: Path) -> None:
    """Refuses a folder where making a corpus would overwrite or delete what is not one."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"out_dir must be a folder; got {folder}, which is a file")
    if (folder / STAMP).exists() or (folder / LOCK).exists():
        return
    own = [path for split in SPLITS for path in (folder / split, _manifest(folder, split))]
    taken = [path.name for path in own if path.exists()]
    if taken:
        raise ValueError(
            f"out_dir must be new, empty or a demo corpus; got {folder}, which holds {', '.join(taken)} of something "
            "else"
        )


def _clear(folder: Path) -> None:
    (folder / STAMP).unlink(missing_ok=True)
    for path in _own_files(folder):
        path.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the system frees the lock of a process that ends."""
    with FileLock(folder / LOCK):
        try:
            yield
        finally:
            # filelock removes its file on some systems; it stays, as a sign that what is in the folder is ours.
            (folder / LOCK).touch()
