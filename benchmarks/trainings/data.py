"""The speech of a corpus as features, and random crops of it."""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from nest_tools.audio import AudioReader
from nest_tools.utterances import read_manifest
from torch import Tensor

FRAMES_PER_SECOND = 100
SAMPLE_RATE = 16000


def read_audio(manifest: Path) -> Iterator[Tensor]:
    """The utterances [N] of a manifest.

    Raises:
        ValueError: an utterance cannot be read; after the last one.
    """
    utterances, skipped = read_manifest(manifest)
    for _, samples in AudioReader(SAMPLE_RATE).read_each(utterances, skipped):
        yield torch.from_numpy(samples)
    if skipped:
        raise ValueError(f"the corpus must be whole; got {skipped[0]}")


@torch.no_grad()
def features_of(audio: Iterable[Tensor], preprocessor: Any) -> list[Tensor]:
    """Log-mel features [D, T] of utterances [N]."""
    features = []
    for samples in audio:
        frames, length = preprocessor(input_signal=samples[None], length=torch.tensor([len(samples)]))
        features.append(frames[0, :, : int(length)].clone())
    return features


def padded(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A batch [B, D, T] of features [D, T], and lengths [B]."""
    rows = torch.nn.utils.rnn.pad_sequence([frames.T for frames in features], batch_first=True)
    return rows.transpose(1, 2).contiguous(), torch.tensor([frames.shape[1] for frames in features])


class RandomCrops:
    """Batches of random crops of utterances, in an order that depends on the seed alone.

    Args:
        utterances: features [D, T].
        batch: crops in a batch, each of another utterance.
        seconds: length of a crop; shorter utterances are taken whole.
    """

    def __init__(self, utterances: Sequence[Tensor], batch: int, seconds: float, seed: int):
        self._utterances, self._batch, self._frames = utterances, batch, int(seconds * FRAMES_PER_SECOND)
        self._random = random.Random(seed)

    def next(self) -> tuple[Tensor, Tensor]:
        """The next batch [B, D, T], and lengths [B]."""
        crops = []
        for utterance in self._random.sample(self._utterances, self._batch):
            start = self._random.randrange(max(1, utterance.shape[1] - self._frames))
            crops.append(utterance[:, start : start + self._frames])
        return padded(crops)

    def state_dict(self) -> dict[str, Any]:
        """The state of the order."""
        return {"random": self._random.getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state of `state_dict`."""
        self._random.setstate(state["random"])
