"""The utterances that a report is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from tqdm import tqdm

from nest_tools.audio import AudioReader, UnusableAudio
from nest_tools.recipe import Recipe
from nest_tools.utterances import Skipped, Utterance


@dataclass(frozen=True)
class Speech:
    """The utterances of a report."""

    name: str
    """Of the utterance that the pictures show."""
    features: Tensor
    """Its features [D, T]."""
    lengths: list[int]
    """Of all utterances, in feature frames."""
    skipped: list[Skipped]

    @classmethod
    def read(cls, recipe: Recipe, utterances: Sequence[Utterance], convert: bool = False) -> "Speech":
        """Reads all that can be read; the pictures show the first of them.

        Raises:
            ValueError: none can; the message names the first reasons.
        """
        name, features = None, None
        lengths: list[int] = []
        skipped: list[Skipped] = []
        reader = AudioReader(recipe.sample_rate, convert)
        shown = tqdm(utterances, "Utterances", unit="file", disable=len(utterances) < 2)
        for utterance, samples in reader.read_each(shown, skipped):
            try:
                check_length(recipe, samples)
            except UnusableAudio as error:
                skipped.append(Skipped(str(utterance.path), str(error)))
                continue
            lengths.append(recipe.feature_frames(len(samples)))
            if features is None:
                name, features = utterance.name, recipe.features(samples)
        if name is None or features is None:
            reasons = "; ".join(map(str, skipped[:5]))
            raise ValueError(f"no utterance can be used ({reasons or 'none was given'})")
        return cls(name, features, lengths, skipped)


def check_length(recipe: Recipe, samples: np.ndarray) -> None:
    """Refuses samples [N] of which there is no encoder frame.

    Raises:
        UnusableAudio: the samples are fewer.
    """
    if recipe.feature_frames(len(samples)) < recipe.reach.factor:
        raise UnusableAudio(
            f"the utterance must be at least an encoder frame of {recipe.reach.frame_seconds:.3f} s long; got "
            f"{len(samples) / recipe.sample_rate:.3f} s"
        )
