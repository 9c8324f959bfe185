"""A small corpus of synthetic speech, made on the spot from a seed.

Few sentences are spoken by many voices, so that a small model finds something to predict within minutes. Beside the
speech lie noises for denoising, and for each utterance the times of its phones, for probes. ::

    python demo_corpus.py demo/corpus --minutes 10

    corpus = make_corpus("demo/corpus", minutes=10)
    corpus.train_manifest        # demo/corpus/train_manifest.json, in NeMo's format

The folder holds::

    train_manifest.json  validation_manifest.json  noise_manifest.json
    train/00000.wav      validation/00000.wav      noise/white.wav ...      16 kHz, mono, 16 bit
    train/00000.phones.json ...                    label, start and end of each phone
    corpus.json                                    the options, written last: the folder is complete

Paths in the manifests are relative, so the folder can be moved. Speech comes from eSpeak NG
(https://github.com/espeak-ng/espeak-ng), which the package ``espeakng-loader`` brings along with its voices.
"""

import argparse
import contextlib
import fcntl
import importlib.metadata
import json
import numbers
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from scipy.signal import resample_poly
from tqdm import tqdm

SAMPLE_RATE = 16000

# Mostly one language: what is to be learned lies in few phones and few words, heard often.
SENTENCES = {
    "en": (
        "Seven white geese crossed the frozen lake at dawn.",
        "Please hang the yellow lantern above the garden door.",
        "My uncle bakes fresh bread every Thursday morning.",
        "The old train shook as it rolled through the valley.",
        "Could you measure the width of this heavy bench?",
        "She poured hot ginger tea into a chipped blue cup.",
        "Thunder echoed over the hills long after the rain.",
        "A young fox watched us from behind the hedge.",
        "He forgot both his passport and his umbrella.",
        "They joined the choir to sing with their neighbours.",
        "Put the small copper coins back in the tin box.",
        "Our ship reached the quiet harbour just before noon.",
    ),
    "de": (
        "Der kleine Vogel singt am frühen Morgen.",
        "Wir kaufen heute Brot und süße Äpfel.",
        "Die Straße führt durch einen dunklen Wald.",
        "Neun Freunde fahren mit dem Zug ans Meer.",
    ),
    "es": (
        "La niña guarda su guitarra roja en el armario.",
        "Mañana lloverá sobre los tejados del pueblo.",
        "El perro corre feliz junto al río ancho.",
        "Mi hermano lee un libro viejo bajo la higuera.",
    ),
}

# By language or accent: the library's variants that speak it, each with a pitch, formants and a timbre of its own.
# No variant occurs twice: a validation voice is unseen in training.
TRAIN_VARIANTS = {
    "en-us": ("m1", "m3", "Mario", "rob", "Alex", "robert", "f3", "f5", "belinda", "Annie", "Andrea"),
    "en-gb-x-rp": ("m6", "m8", "victor", "edward", "f2", "linda"),
    "en-gb-scotland": ("f4", "grandma"),
    "en-029": ("aunty",),
    "de": ("paul", "klatt4", "shelby"),
    "es": ("Nguyen", "marcelo", "steph"),
}
VALIDATION_VARIANTS = {
    "en-us": ("m4", "m7", "f1"),
    "en-gb-x-rp": ("adam",),
    "en-gb-scotland": ("m5",),
    "de": ("Mike",),
    "es": ("pedro",),
}

RATES = (150, 180)  # words per minute, drawn per utterance
PITCHES = (45, 55)  # of the library's scale, 0 to 99, where 50 is the voice's own pitch

MIN_UTTERANCE_SECONDS = 5.0  # the longest sentence at the slowest rate takes 4.1 s, and a pause lies at both ends
MIN_PAUSE_SECONDS = 0.15
SPEECH_RMS = 0.07  # of full scale
FLOOR_RMS = 0.0001  # a faint hiss, 57 dB below the speech: no recording falls silent altogether
NOISE_RMS = 0.07
MAX_PEAK = 0.95

CHARACTERS_PER_SECOND = (8, 40)  # outside, something went wrong: these voices and rates stay within 11 and 31

SILENCE = "_"
SILENT_LEVEL = 32  # of 32768
MIN_SILENCE_SECONDS = 0.02

SPLITS = ("train", "validation", "noise")
STAMP = "corpus.json"
LOCK = "corpus.lock"
FORMAT = 2  # raise it whenever the same options would give other files

WORKER = Path(__file__).with_name("espeak_worker.py")
WORKER_TIMEOUT_SECONDS = 120


class Phone(NamedTuple):
    """A phone and its time.

    Attributes:
        label: eSpeak NG's name of it, without stress; ``"_"`` for silence: pauses, and closures of 20 ms and more
            (a few voices have a faint echo, which fills closures).
        start: seconds from the beginning of the file.
        end: seconds; the phones of a file follow one another without a gap.
        stress: 2 primary, 1 secondary, 0 none.
    """

    label: str
    start: float
    end: float
    stress: int = 0


@dataclass(frozen=True)
class Corpus:
    """What :func:`make_corpus` made: where the manifests are, and how much there is."""

    folder: Path
    train_manifest: Path
    validation_manifest: Path
    noise_manifest: Path
    train_utterances: int
    validation_utterances: int
    train_seconds: float
    validation_seconds: float
    noise_seconds: float


@dataclass(frozen=True)
class Utterance:
    """The plan of one utterance: all that :func:`render` needs.

    Attributes:
        split: ``train`` or ``validation``, its folder.
        name: of its files, without the ending.
        voice: eSpeak NG's voice, as in ``en-us+f3``.
        rate: words per minute.
        pitch: 0 to 99.
        samples: length at 16 kHz.
        sentences: in the order of speaking; the last ones are left out where the time is up.
        seed: of the pauses and the hiss.
    """

    split: str
    name: str
    voice: str
    rate: int
    pitch: int
    samples: int
    sentences: tuple[str, ...]
    seed: tuple[int, ...]


class Rendered(NamedTuple):
    """A spoken utterance: 16-bit samples ``[T]`` at 16 kHz, the text that was said, and its phones."""

    audio: np.ndarray
    text: str
    phones: list[Phone]


class SpokenSentence(NamedTuple):
    """A sentence as the library gives it: float samples ``[T]``, resampled to 16 kHz, and its phones."""

    text: str
    audio: np.ndarray
    phones: list[Phone]


@dataclass(frozen=True)
class Options:
    """The options of :func:`make_corpus` that decide what is in the files."""

    minutes: float
    validation_minutes: float
    seed: int
    min_seconds: float
    max_seconds: float

    def __post_init__(self):
        for name in ("minutes", "validation_minutes", "min_seconds", "max_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
            object.__setattr__(self, name, float(value))
        if isinstance(self.seed, bool) or not isinstance(self.seed, numbers.Integral):
            raise TypeError(f"seed must be a whole number, got {self.seed!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed!r}")
        object.__setattr__(self, "seed", int(self.seed))
        if self.min_seconds < MIN_UTTERANCE_SECONDS:
            raise ValueError(
                f"min_seconds must be at least {MIN_UTTERANCE_SECONDS}, so that every sentence fits,"
                f" got {self.min_seconds!r}"
            )
        if self.max_seconds < self.min_seconds:
            raise ValueError(
                f"max_seconds must be at least min_seconds, got min_seconds={self.min_seconds!r}"
                f" and max_seconds={self.max_seconds!r}"
            )


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
    """Makes the corpus in ``out_dir``, or returns at once where it is already there with the same options.

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
        ValueError, TypeError: an option is out of its range, or ``out_dir`` holds files that are not a corpus's.
        NotADirectoryError: ``out_dir`` is a file.
        ImportError: ``espeakng-loader`` is not installed.
        RuntimeError: the library failed, or gave silence.
    """
    options = Options(minutes, validation_minutes, seed, min_seconds, max_seconds)
    folder = Path(out_dir)
    corpus = _finished(folder, options)
    if corpus is None:
        _check_folder(folder)
        _espeak_paths()
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            corpus = _finished(folder, options) or _build(folder, options, progress)
    return corpus


def read_phones(audio_path: str | os.PathLike) -> list[Phone]:
    """The phones of one of the corpus's WAV files, in order, from its first sample to its last."""
    path = Path(audio_path).with_suffix(".phones.json")
    return [Phone(**phone) for phone in json.loads(path.read_text(encoding="utf-8"))]


# ---- What is said, by whom ----


def plan_corpus(options: Options) -> tuple[list[Utterance], list[Utterance]]:
    """The utterances of training and of validation."""
    return (
        _plan_split("train", TRAIN_VARIANTS, options.minutes, options, 0),
        _plan_split("validation", VALIDATION_VARIANTS, options.validation_minutes, options, 1),
    )


def _plan_split(split: str, variants: dict, minutes: float, options: Options, stream: int) -> list[Utterance]:
    rng = np.random.default_rng([options.seed, stream])
    low, high = options.min_seconds, options.max_seconds
    count = max(1, round(60 * minutes / ((low + high) / 2)))
    # One length from each of `count` equal parts of the range: the total varies little with the seed.
    seconds = low + (high - low) * (rng.permutation(count) + rng.random(count)) / count
    voices = [f"{accent}+{variant}" for accent, names in variants.items() for variant in names]
    return [
        Utterance(
            split=split,
            name=f"{index:05d}",
            voice=voice,
            rate=int(rng.integers(*RATES, endpoint=True)),
            pitch=int(rng.integers(*PITCHES, endpoint=True)),
            samples=round(length * SAMPLE_RATE),
            # No sentence is shorter than a second.
            sentences=tuple(_shuffled_rounds(rng, SENTENCES[language_of(voice)], int(length) + 1)),
            seed=(options.seed, stream, index),
        )
        for index, (voice, length) in enumerate(zip(_shuffled_rounds(rng, voices, count), seconds, strict=True))
    ]


def language_of(voice: str) -> str:
    """``en`` of ``en-gb-x-rp+m2``."""
    return re.match("[a-z]+", voice).group()


def _shuffled_rounds(rng: np.random.Generator, items: Sequence, count: int) -> list:
    """``count`` of the items: all of them in a random order, then all in another, and so on."""
    rounds = [rng.permutation(len(items)) for _ in range(-(-count // len(items)))]
    return [items[index] for index in np.concatenate(rounds)[:count]]


# ---- Speech ----


def render(utterance: Utterance) -> Rendered:
    """Speaks an utterance. The result depends on the plan alone, not on what was spoken before it."""
    rng = np.random.default_rng(utterance.seed)
    pause = round(MIN_PAUSE_SECONDS * SAMPLE_RATE)
    spoken, used = [], pause
    for sentence in speak(utterance):
        if used + len(sentence.audio) + pause > utterance.samples:
            break
        spoken.append(sentence)
        used += len(sentence.audio) + pause
    if not spoken:
        raise RuntimeError(
            f"no sentence fits into {utterance.split}/{utterance.name}: {utterance.samples / SAMPLE_RATE:.1f} s"
        )

    # What is left over lengthens the pauses, so that the utterance has its exact length and no sentence is cut.
    extra = np.floor(rng.dirichlet(np.full(len(spoken) + 1, 4.0)) * (utterance.samples - used)).astype(int)
    audio, phones, position = np.zeros(utterance.samples), [], 0
    for sentence, more in zip(spoken, extra[:-1], strict=True):
        position += pause + int(more)
        audio[position : position + len(sentence.audio)] = sentence.audio
        offset = position / SAMPLE_RATE
        phones += [phone._replace(start=phone.start + offset, end=phone.end + offset) for phone in sentence.phones]
        position += len(sentence.audio)

    speech = np.concatenate([sentence.audio for sentence in spoken])
    audio = audio * _gain(speech, SPEECH_RMS) + FLOOR_RMS * rng.standard_normal(len(audio))
    text = " ".join(sentence.text for sentence in spoken)
    return Rendered(_to_int16(audio), text, _with_silences(phones, utterance.samples / SAMPLE_RATE))


def speak(utterance: Utterance) -> Iterator[SpokenSentence]:
    """Speaks the sentences of an utterance until its time is full, in a process of their own.

    Raises:
        RuntimeError: the library failed, or a sentence is silent or of an unlikely length.
    """
    library, data = _espeak_paths()
    variant = Path(data, "voices", "!v", utterance.voice.partition("+")[2])
    if not variant.is_file():  # the library would speak with its default voice
        raise RuntimeError(f"this version of espeakng-loader has no voice variant {variant.name!r}")
    request = {
        "library": library,
        "data": data,
        "voice": utterance.voice,
        "rate": utterance.rate,
        "pitch": utterance.pitch,
        "sentences": utterance.sentences,
        "seconds": utterance.samples / SAMPLE_RATE,
    }
    process = subprocess.run(
        [sys.executable, "-I", "-S", str(WORKER)],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
        timeout=WORKER_TIMEOUT_SECONDS,
    )
    if process.returncode != 0:
        raise RuntimeError(
            f"eSpeak NG failed with status {process.returncode} ({utterance.voice}):"
            f" {process.stderr.decode(errors='replace').strip()}"
        )
    header, samples = process.stdout.split(b"\n", 1)
    reply = json.loads(header)
    position = 0
    for text, sentence in zip(utterance.sentences, reply["sentences"], strict=False):  # the last ones may be unsaid
        pcm = np.frombuffer(samples, dtype="<i2", count=sentence["samples"], offset=2 * position)
        position += len(pcm)
        _check_speech(pcm, reply["sample_rate"], sentence["phones"], text, utterance.voice)
        audio = resample_poly(pcm / 32768.0, SAMPLE_RATE, reply["sample_rate"])
        yield SpokenSentence(text, audio, _timed_phones(pcm, sentence["phones"], reply["sample_rate"]))


def _espeak_paths() -> tuple[str, str]:
    """The library's file and the folder of its voices."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError("the demo corpus is spoken by eSpeak NG: pip install espeakng-loader") from error
    return os.path.abspath(espeakng_loader.get_library_path()), os.path.abspath(espeakng_loader.get_data_path())


def _check_speech(pcm: np.ndarray, sample_rate: int, phones: list, text: str, voice: str):
    seconds = len(pcm) / sample_rate
    slowest, fastest = CHARACTERS_PER_SECOND
    level = np.sqrt(np.mean(np.square(pcm, dtype=np.float64))) if len(pcm) else 0.0
    if not seconds * slowest < len(text) < seconds * fastest or level < 100 or len(phones) < len(text) / 4:
        raise RuntimeError(
            f"eSpeak NG did not say {text!r} with voice {voice!r}: it gave {seconds:.2f} s, {len(phones)} phones and"
            f" an RMS of {level:.0f} of 32768"
        )


def _timed_phones(pcm: np.ndarray, marks: list, sample_rate: int) -> list[Phone]:
    """The sounding phones of a sentence.

    The library counts the pause or closure before a phone to the one before. Here a phone ends with its sound.
    """
    ends = [start for start, _ in marks[1:]] + [len(pcm)]
    phones = []
    for (start, mark), limit in zip(marks, ends, strict=True):
        stress, label = re.fullmatch("([',%=]*)(.*)", mark).groups()
        sounding = np.flatnonzero(np.abs(pcm[start:limit].astype(int)) > SILENT_LEVEL)
        if label.startswith(SILENCE) or not len(sounding):
            continue
        end = start + int(sounding[-1]) + 1
        if limit - end < MIN_SILENCE_SECONDS * sample_rate:
            end = limit
        phones.append(Phone(label, start / sample_rate, end / sample_rate, 2 if "'" in stress else int("," in stress)))
    return phones


def _with_silences(phones: list[Phone], seconds: float) -> list[Phone]:
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


def _gain(audio: np.ndarray, rms: float) -> float:
    """What brings the audio to this level, or to the highest one without clipping."""
    return min(rms / np.sqrt(np.mean(audio**2)), MAX_PEAK / np.abs(audio).max())


def _to_int16(audio: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(audio * 32767), -32768, 32767).astype(np.int16)


# ---- Noise ----

# Power falls with frequency to this power.
COLOURS = {"white": 0, "pink": 1, "brown": 2}
HUMS = {"hum_50hz": 50, "hum_60hz": 60}  # mains
BABBLES = {"babble_1": 4, "babble_2": 6, "babble_3": 8}  # voices at once
NOISES = (*COLOURS, *HUMS, *BABBLES)
NOISE_SECONDS = (5.0, 20.0)


def make_noise(name: str, seed: int, speech_paths: list[Path]) -> np.ndarray:
    """One of ``NOISES``, 16-bit samples ``[T]``. ``speech_paths``: what babble is made of."""
    rng = np.random.default_rng([seed, 2, NOISES.index(name)])
    samples = round(rng.uniform(*NOISE_SECONDS) * SAMPLE_RATE)
    if name in COLOURS:
        noise = _coloured(rng, samples, COLOURS[name])
    elif name in HUMS:
        noise = _hum(rng, samples, HUMS[name])
    else:
        noise = _babble(rng, samples, BABBLES[name], speech_paths)
    return _to_int16(noise * _gain(noise, NOISE_RMS))


def _coloured(rng: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    # Flat below 20 Hz: brown noise would otherwise be all rumble.
    return np.fft.irfft(spectrum * np.maximum(frequency, 20.0) ** (-slope / 2), samples)


def _hum(rng: np.random.Generator, samples: int, mains: float) -> np.ndarray:
    """Harmonics of the mains, random in level and phase, swelling slowly, over a little pink noise."""
    time = np.arange(samples) / SAMPLE_RATE
    harmonics = np.arange(1, 25)
    levels = rng.uniform(0.3, 1.0, len(harmonics)) / harmonics
    phases = rng.uniform(0, 2 * np.pi, len(harmonics))
    hum = sum(
        level * np.sin(2 * np.pi * mains * harmonic * time + phase)
        for level, harmonic, phase in zip(levels, harmonics, phases, strict=True)
    )
    hum *= 1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.2, 1.0) * time)
    hiss = _coloured(rng, samples, 1)
    return hum + 0.1 * hiss * np.std(hum) / np.std(hiss)


def _babble(rng: np.random.Generator, samples: int, voices: int, speech_paths: list[Path]) -> np.ndarray:
    """Utterances on top of each other, each from a place of its own, repeated where too short."""
    noise = np.zeros(samples)
    for index in rng.choice(len(speech_paths), voices, replace=len(speech_paths) < voices):
        speech, _ = soundfile.read(speech_paths[index])
        noise += np.resize(np.roll(speech, int(rng.integers(len(speech)))), samples)
    return noise


# ---- The folder ----


def _build(folder: Path, options: Options, progress: bool) -> Corpus:
    _clear(folder)
    train, validation = plan_corpus(options)
    manifests = {split: [] for split in SPLITS}
    count = len(train) + len(validation) + len(NOISES)
    with tqdm(total=count, desc="demo corpus", unit="file", disable=not progress) as bar:
        for utterance in (*train, *validation):
            manifests[utterance.split].append(_write_utterance(folder, utterance))
            bar.update()
        speech_paths = [folder / entry["audio_filepath"] for entry in manifests["train"]]
        for name in NOISES:
            audio = make_noise(name, options.seed, speech_paths)
            manifests["noise"].append({**_write_wav(folder, f"noise/{name}", audio), "text": ""})
            bar.update()
    for split, entries in manifests.items():
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        _manifest(folder, split).write_text("".join(lines), encoding="utf-8")
    _write_stamp(folder, options, manifests)
    return _finished(folder, options)


def _write_utterance(folder: Path, utterance: Utterance) -> dict:
    """Writes the audio and the phones, returns the line of the manifest."""
    audio, text, phones = render(utterance)
    entry = _write_wav(folder, f"{utterance.split}/{utterance.name}", audio)
    phones_path = (folder / entry["audio_filepath"]).with_suffix(".phones.json")
    rows = ",\n".join(json.dumps(phone._asdict(), ensure_ascii=False) for phone in phones)
    phones_path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    return {**entry, "text": text, "speaker": utterance.voice, "lang": language_of(utterance.voice)}


def _write_wav(folder: Path, name: str, audio: np.ndarray) -> dict:
    path = folder / f"{name}.wav"
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, audio, SAMPLE_RATE, subtype="PCM_16")
    return {"audio_filepath": f"{name}.wav", "duration": len(audio) / SAMPLE_RATE}


def _manifest(folder: Path, split: str) -> Path:
    return folder / f"{split}_manifest.json"


def _write_stamp(folder: Path, options: Options, manifests: dict[str, list[dict]]):
    """Says that the folder is complete. Renaming makes it appear whole or not at all."""
    paths = [*_own_files(folder), *(_manifest(folder, split) for split in manifests)]
    stamp = {
        "format": FORMAT,
        "options": asdict(options),
        "espeakng_loader": importlib.metadata.version("espeakng-loader"),
        "totals": {
            "train_utterances": len(manifests["train"]),
            "validation_utterances": len(manifests["validation"]),
            **{f"{split}_seconds": sum(entry["duration"] for entry in manifests[split]) for split in manifests},
        },
        "sizes": {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths},
    }
    temporary = folder / f"{STAMP}.tmp"
    temporary.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    os.replace(temporary, folder / STAMP)


def _finished(folder: Path, options: Options) -> Corpus | None:
    """The corpus of these options in this folder, None if it is not there or not whole."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        if stamp["format"] != FORMAT or stamp["options"] != asdict(options):
            return None
        if any((folder / name).stat().st_size != size for name, size in stamp["sizes"].items()):
            return None
        manifests = {f"{split}_manifest": _manifest(folder, split) for split in SPLITS}
        return Corpus(folder=folder, **manifests, **stamp["totals"])
    except (OSError, ValueError, KeyError, TypeError):  # no stamp, a file is gone, or the stamp is not ours
        return None


def _own_files(folder: Path) -> list[Path]:
    return sorted(
        path for split in SPLITS for pattern in ("*.wav", "*.phones.json") for path in (folder / split).glob(pattern)
    )


def _check_folder(folder: Path):
    """Refuses a folder where making a corpus would overwrite or delete what is not one."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"out_dir must be a folder, but {folder} is a file")
    if (folder / STAMP).exists() or (folder / LOCK).exists():
        return
    own = [path for split in SPLITS for path in (folder / split, _manifest(folder, split))]
    taken = [path.name for path in own if path.exists()]
    if taken:
        raise ValueError(
            f"out_dir must be new, empty or a demo corpus, but {folder} holds {', '.join(taken)} of something else"
        )


def _clear(folder: Path):
    (folder / STAMP).unlink(missing_ok=True)
    for path in _own_files(folder):
        path.unlink()


@contextlib.contextmanager
def _locked(folder: Path):
    """One process at a time; the system frees the lock of a process that ends. The file stays, as a sign of ours."""
    with open(folder / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Makes a small corpus of synthetic speech with NeMo manifests.")
    parser.add_argument("out_dir", type=Path, help="folder of the corpus")
    parser.add_argument("--minutes", type=float, default=10.0, help="speech for training (default: 10)")
    parser.add_argument("--validation-minutes", type=float, default=2.0, help="speech for validation (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random (default: 0)")
    parser.add_argument("--min-seconds", type=float, default=12.0, help="shortest utterance (default: 12)")
    parser.add_argument("--max-seconds", type=float, default=24.0, help="longest utterance (default: 24)")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    options = vars(parser.parse_args(arguments))
    try:
        corpus = make_corpus(options.pop("out_dir"), **options)
    except (ImportError, NotADirectoryError, ValueError) as error:
        parser.error(str(error))
    for name, value in asdict(corpus).items():
        print(f"{name:22} {value:.1f}" if isinstance(value, float) else f"{name:22} {value}")


if __name__ == "__main__":
    main()
