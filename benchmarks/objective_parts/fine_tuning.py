"""Fine-tuning of the whole encoder on the phones of frames, with few labels."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from nest_tools.probe.labels import FrameLabels
from torch import Tensor, nn
from trainings.data import FRAMES_PER_SECOND, features_of, padded
from trainings.training import cosine

from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context
from objective_parts.arms import CONTEXTS, Size
from objective_parts.pretraining import EVALUATED_AT_ONCE, warm_up_of
from objective_parts.speech import LabelledAudio

LabelledFeatures = list[tuple[Tensor, Tensor]]
"""Features `[D, T]`, and the phone of each encoder frame `[S]`, -1 where there is none."""


class LabelledCrops:
    """Batches of random crops with their labels, in an order that depends on the seed alone."""

    def __init__(self, utterances: LabelledFeatures, factor: int, shift: int, batch: int, seconds: float, seed: int):
        self._utterances, self._factor, self._shift, self._batch = utterances, factor, shift, batch
        self._tokens = int(seconds * FRAMES_PER_SECOND) // factor
        self._random = random.Random(seed)

    def next(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features `[B, D, T]`, lengths `[B]`, labels `[B, S]`."""
        crops, labels = [], []
        for features, numbers in self._random.choices(self._utterances, k=self._batch):
            tokens = features.shape[1] // self._factor
            first = self._random.randrange(max(1, tokens - self._tokens))
            start = first * self._factor
            crops.append(features[:, start : start + self._tokens * self._factor])
            own = numbers[first : first + self._tokens].clone()
            own[: self._shift] = -1  # frames before the first whole token of the crop
            labels.append(own)
        return *padded(crops), nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-1)


class PhoneTagger(nn.Module):
    """An encoder with a linear head for the phone of each frame."""

    def __init__(self, model: Any, phones: int):
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.encoder.d_model, phones)

    def forward(self, features: Tensor, lengths: Tensor, context: Sequence[int]) -> Tensor:
        """Scores `[B, S, phones]` of features `[B, D, T]`."""
        with dynamic_context(self.model, list(context)):
            frames, _ = self.model.encoder(audio_signal=features, length=lengths)
        return self.head(frames.transpose(1, 2))


def labelled_features(utterances: Sequence[LabelledAudio], model: Any, number: FrameLabels) -> LabelledFeatures:
    """Features and labels of whole utterances."""
    labelled = []
    all_features = features_of((utterance.audio for utterance in utterances), model.preprocessor)
    for utterance, features in zip(utterances, all_features, strict=True):
        frames = features.shape[1] // number.factor + number.shift
        labelled.append((features, number(utterance, frames)))
    return labelled


def fine_tune(
    model: Any,
    train: LabelledFeatures,
    test: LabelledFeatures,
    number: FrameLabels,
    size: Size,
    seed: int,
    peak: float | None = None,
) -> dict[str, float]:
    """Accuracy (share of frames) on `test` at each context, after the size's steps on `train`.

    `peak` is the highest learning rate, None for the size's. The model's encoder is changed. One context is sampled
    for each batch, as in pretraining. All arms of a seed have the same crops, contexts and head.
    """
    torch.manual_seed(1000 + seed)
    tagger = PhoneTagger(model, len(number.numbers)).to(model.device).train()
    contexts = random.Random(seed)
    crops = LabelledCrops(train, number.factor, number.shift, size.fine_tuning_batch, size.fine_tuning_seconds, seed)
    weights = [*model.encoder.parameters(), *tagger.head.parameters()]
    optimizer = torch.optim.AdamW(weights, peak or size.fine_tuning_peak, betas=(0.9, 0.98), weight_decay=1e-2)
    steps = size.fine_tuning_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps, warm_up_of(steps)))
    for _ in range(steps):
        features, lengths, labels = (tensor.to(model.device) for tensor in crops.next())
        scores = tagger(features, lengths, contexts.choice(CONTEXTS))
        loss = nn.functional.cross_entropy(
            scores[:, : labels.shape[1]].flatten(0, 1), labels[:, : scores.shape[1]].flatten(), ignore_index=-1
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    return {str(context): accuracy(tagger.eval(), test, context) for context in CONTEXTS}


@torch.no_grad()
def accuracy(tagger: PhoneTagger, test: LabelledFeatures, context: Sequence[int]) -> float:
    """The share of labelled frames whose phone is found."""
    right = known = 0
    for index in range(0, len(test), EVALUATED_AT_ONCE):
        features, lengths = padded([features for features, _ in test[index : index + EVALUATED_AT_ONCE]])
        numbers = [numbers for _, numbers in test[index : index + EVALUATED_AT_ONCE]]
        labels = nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=-1)
        device = tagger.head.weight.device
        found = tagger(features.to(device), lengths.to(device), context).argmax(2).cpu()
        width = min(found.shape[1], labels.shape[1])
        found, labels = found[:, :width], labels[:, :width]
        right += int((found == labels).sum())
        known += int((labels >= 0).sum())
    return right / known
