"""The speech of the evaluation: features, phones, and the parts it is split into."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nest_tools.audio import AudioReader
from nest_tools.probe import LabelledAudio, read_labelled
from trainings.data import SAMPLE_RATE

VALIDATION_MINUTES = 5.0
"""Speech of a corpus without a validation part of its own, as those of `demo_corpus.py`: the last of its training."""


@dataclass(frozen=True)
class Speech:
    """Utterances with phones, in three parts."""

    train: list[LabelledAudio]
    validation: list[LabelledAudio]
    test: list[LabelledAudio]

    @property
    def labels(self) -> list[str]:
        """The phones of the training part, sorted."""
        return sorted({label for utterance in self.train for label, _, _ in utterance.phones})


def read_speech(corpus: Path) -> Speech:
    """The speech of a corpus folder of `aligned_corpus.py`, or of `demo_corpus.py`.

    Raises:
        FileNotFoundError: a manifest is missing.
        ValueError: an utterance cannot be used.
    """
    reader = AudioReader(SAMPLE_RATE)

    def read(manifest: str) -> list[LabelledAudio]:
        utterances, skipped = read_labelled(corpus / manifest, reader)
        if skipped:
            raise ValueError(f"--corpus must be whole; got {skipped[0]}")
        return utterances

    train, validation = read("train_manifest.json"), read("validation_manifest.json")
    if (corpus / "test_manifest.json").is_file():
        return Speech(train, validation, read("test_manifest.json"))
    held_out = up_to(train[::-1], VALIDATION_MINUTES)
    return Speech(train[: len(train) - len(held_out)], held_out, validation)


def up_to(utterances: Sequence[LabelledAudio], minutes: float) -> list[LabelledAudio]:
    """The first utterances, until there are so many minutes."""
    chosen, samples = [], 0
    for utterance in utterances:
        if samples >= 60 * minutes * SAMPLE_RATE:
            break
        samples += len(utterance.audio)
        chosen.append(utterance)
    return chosen
