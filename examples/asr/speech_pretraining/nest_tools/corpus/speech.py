"""Speech of the corpus: an utterance spoken by eSpeak NG as it was planned."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import resample_poly

from nest_tools.corpus.levels import gain, to_int16
from nest_tools.corpus.options import SAMPLE_RATE
from nest_tools.corpus.phones import Phone, timed_phones, with_silences
from nest_tools.corpus.plan import UtterancePlan

MIN_PAUSE_SECONDS = 0.15
SPEECH_RMS = 0.07  # of full scale
FLOOR_RMS = 0.0001  # a faint hiss, 57 dB below the speech: no recording falls silent altogether
CHARACTERS_PER_SECOND = (8, 40)  # outside, something went wrong: these voices and rates stay within 11 and 31

WORKER = Path(__file__).with_name("espeak_worker.py")
WORKER_TIMEOUT_SECONDS = 120


class Rendered(NamedTuple):
    """A spoken utterance: 16-bit samples `[N]` at 16 kHz, the text that was said, and its phones."""

    audio: np.ndarray
    text: str
    phones: list[Phone]


class SpokenSentence(NamedTuple):
    """A sentence as the library gives it: float samples `[N]`, resampled to 16 kHz, and its phones."""

    text: str
    audio: np.ndarray
    phones: list[Phone]


def render(plan: UtterancePlan) -> Rendered:
    """Speaks a planned utterance. The result depends on the plan alone, not on what was spoken before it."""
    rng = np.random.default_rng(plan.seed)
    pause = round(MIN_PAUSE_SECONDS * SAMPLE_RATE)
    spoken, used = [], pause
    for sentence in speak(plan):
        if used + len(sentence.audio) + pause > plan.samples:
            break
        spoken.append(sentence)
        used += len(sentence.audio) + pause
    if not spoken:
        raise RuntimeError(f"no sentence fits into {plan.split}/{plan.name}: {plan.samples / SAMPLE_RATE:.1f} s")

    # What is left over lengthens the pauses, so that the utterance has its exact length and no sentence is cut.
    extra = np.floor(rng.dirichlet(np.full(len(spoken) + 1, 4.0)) * (plan.samples - used)).astype(int)
    audio, phones, position = np.zeros(plan.samples), [], 0
    for sentence, more in zip(spoken, extra[:-1], strict=True):
        position += pause + int(more)
        audio[position : position + len(sentence.audio)] = sentence.audio
        offset = position / SAMPLE_RATE
        phones += [phone._replace(start=phone.start + offset, end=phone.end + offset) for phone in sentence.phones]
        position += len(sentence.audio)

    speech = np.concatenate([sentence.audio for sentence in spoken])
    audio = audio * gain(speech, SPEECH_RMS) + FLOOR_RMS * rng.standard_normal(len(audio))
    text = " ".join(sentence.text for sentence in spoken)
    return Rendered(to_int16(audio), text, with_silences(phones, plan.samples / SAMPLE_RATE))


def speak(plan: UtterancePlan) -> Iterator[SpokenSentence]:
    """Speaks the sentences of an utterance until its time is full, in a process of their own.

    Raises:
        RuntimeError: the library failed, or a sentence is silent or of an unlikely length.
    """
    library, data = espeak_paths()
    variant = Path(data, "voices", "!v", plan.voice.partition("+")[2])
    if not variant.is_file():  # the library would speak with its default voice
        raise RuntimeError(f"this version of espeakng-loader has no voice variant {variant.name!r}")
    request = {
        "library": library,
        "data": data,
        "voice": plan.voice,
        "rate": plan.rate,
        "pitch": plan.pitch,
        "sentences": plan.sentences,
        "seconds": plan.samples / SAMPLE_RATE,
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
            f"eSpeak NG failed with status {process.returncode} ({plan.voice}):"
            f" {process.stderr.decode(errors='replace').strip()}"
        )
    header, samples = process.stdout.split(b"\n", 1)
    reply = json.loads(header)
    position = 0
    for text, sentence in zip(plan.sentences, reply["sentences"], strict=False):  # the last ones may be unsaid
        pcm = np.frombuffer(samples, dtype="<i2", count=sentence["samples"], offset=2 * position)
        position += len(pcm)
        _check_speech(pcm, reply["sample_rate"], sentence["phones"], text, plan.voice)
        audio = resample_poly(pcm / 32768.0, SAMPLE_RATE, reply["sample_rate"])
        yield SpokenSentence(text, audio, timed_phones(pcm, sentence["phones"], reply["sample_rate"]))


def espeak_paths() -> tuple[str, str]:
    """The library's file and the folder of its voices."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError("the demo corpus is spoken by eSpeak NG: pip install espeakng-loader") from error
    return os.path.abspath(espeakng_loader.get_library_path()), os.path.abspath(espeakng_loader.get_data_path())


def _check_speech(pcm: np.ndarray, sample_rate: int, phones: list, text: str, voice: str) -> None:
    seconds = len(pcm) / sample_rate
    slowest, fastest = CHARACTERS_PER_SECOND
    level = np.sqrt(np.mean(np.square(pcm, dtype=np.float64))) if len(pcm) else 0.0
    if not seconds * slowest < len(text) < seconds * fastest or level < 100 or len(phones) < len(text) / 4:
        raise RuntimeError(
            f"eSpeak NG did not say {text!r} with voice {voice!r}: it gave {seconds:.2f} s, {len(phones)} phones and"
            f" an RMS of {level:.0f} of 32768"
        )
