"""Noises of the corpus, made from a seed: coloured noise, hum of the mains, and babble."""

from pathlib import Path

import numpy as np
import soundfile

from nest_tools.corpus.levels import gain, to_int16
from nest_tools.corpus.options import SAMPLE_RATE

# Power falls with frequency to this power.
COLOURS = {"white": 0, "pink": 1, "brown": 2}
HUMS = {"hum_50hz": 50, "hum_60hz": 60}  # mains
BABBLES = {"babble_1": 4, "babble_2": 6, "babble_3": 8}  # voices at once
NOISES = (*COLOURS, *HUMS, *BABBLES)
NOISE_SECONDS = (5.0, 20.0)
NOISE_RMS = 0.07


def make_noise(name: str, seed: int, speech_paths: list[Path]) -> np.ndarray:
    """One of `NOISES`, 16-bit samples `[N]`. `speech_paths`: what babble is made of."""
    rng = np.random.default_rng([seed, 2, NOISES.index(name)])
    samples = round(rng.uniform(*NOISE_SECONDS) * SAMPLE_RATE)
    if name in COLOURS:
        noise = _coloured(rng, samples, COLOURS[name])
    elif name in HUMS:
        noise = _hum(rng, samples, HUMS[name])
    else:
        noise = _babble(rng, samples, BABBLES[name], speech_paths)
    return to_int16(noise * gain(noise, NOISE_RMS))


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
