"""What is said in the corpus, by whom and how: decided from the seed before anything is spoken."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nest_tools.corpus.options import SAMPLE_RATE, Options

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

RATES = (150, 180)  # words per minute, sampled for each utterance
PITCHES = (45, 55)  # of the library's scale, 0 to 99, where 50 is the voice's own pitch


@dataclass(frozen=True)
class UtterancePlan:
    """The plan of one utterance: all that `nest_tools.corpus.speech.render` needs.

    Attributes:
        split: `train` or `validation`, its folder.
        name: of its files, without the ending.
        voice: eSpeak NG's voice, as in `en-us+f3`.
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


def plan_corpus(options: Options) -> tuple[list[UtterancePlan], list[UtterancePlan]]:
    """The utterances of training and of validation."""
    return (
        _plan_split("train", TRAIN_VARIANTS, options.minutes, options, 0),
        _plan_split("validation", VALIDATION_VARIANTS, options.validation_minutes, options, 1),
    )


def _plan_split(
    split: str, variants: Mapping[str, Sequence[str]], minutes: float, options: Options, stream: int
) -> list[UtterancePlan]:
    rng = np.random.default_rng([options.seed, stream])
    low, high = options.min_seconds, options.max_seconds
    count = max(1, round(60 * minutes / ((low + high) / 2)))
    # One length from each of `count` equal parts of the range: the total varies little with the seed.
    seconds = low + (high - low) * (rng.permutation(count) + rng.random(count)) / count
    voices = [f"{accent}+{variant}" for accent, names in variants.items() for variant in names]
    return [
        UtterancePlan(
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
    """`en` of `en-gb-x-rp+m2`."""
    return re.split("[^a-z]", voice, maxsplit=1)[0]


def _shuffled_rounds(rng: np.random.Generator, items: Sequence, count: int) -> list:
    """`count` of the items: all of them in a random order, then all in another, and so on."""
    rounds = [rng.permutation(len(items)) for _ in range(-(-count // len(items)))]
    return [items[index] for index in np.concatenate(rounds)[:count]]
