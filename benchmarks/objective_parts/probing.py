"""Linear probes for phones on frozen frames, each with the penalty that validation likes best."""

from collections.abc import Sequence
from typing import Any

import torch
from nest_tools.probe.classifier import LinearProbe
from nest_tools.probe.frames import log_mel_frames, offline_frames
from nest_tools.probe.labels import FrameLabels, LabelledAudio
from nest_tools.probe.weighted_layers import WeightedLayersProbe
from torch import Tensor

from objective_parts.arms import CHOSEN_AT, CONTEXTS, Size
from objective_parts.speech import Speech, up_to

PENALTIES = (1e-4, 1e-3, 1e-2)
ITERATIONS = 200
LOG_MEL_FRAMES = (16, 32, 64)

Part = tuple[list[list[Tensor]], Tensor]
"""Frames `[S, D]` of each layer and utterance, and all labels."""


def probe_encoder(model: Any, speech: Speech, number: FrameLabels, size: Size) -> dict[str, Any]:
    """Accuracies on the test part, by input and context; `penalties` says which ones were chosen, at `CHOSEN_AT`.

    Inputs: all layers side by side, the last layer, and a learned weighting of the layers.
    """
    model.eval()
    found: dict[str, Any] = {"penalties": {}}
    for context in sorted(CONTEXTS, key=lambda context: context != CHOSEN_AT):  # penalties are chosen first
        train, validation, test = (
            _layers(model, part, number, context)
            for part in (up_to(speech.train, size.probe_minutes), speech.validation, speech.test)
        )
        for name, kind, of in (
            ("all_layers", LinearProbe, lambda layers: torch.cat(layers, dim=1)),
            ("last_layer", LinearProbe, lambda layers: layers[-1]),
            ("weighted_layers", WeightedLayersProbe, torch.stack),
        ):
            parts = [(of(layers), labels) for layers, labels in (train, validation, test)]
            penalty, accuracy = chosen_and_tested(kind, *parts, found["penalties"].get(name))
            found["penalties"][name] = penalty
            found.setdefault(name, {})[str(context)] = accuracy
    return found


def probe_log_mels(model: Any, speech: Speech, number: FrameLabels, size: Size) -> dict[str, Any]:
    """Accuracies on log-mels of `LOG_MEL_FRAMES` stacked feature frames, and of the most frequent phone."""
    found: dict[str, Any] = {"penalties": {}}
    splits = (up_to(speech.train, size.probe_minutes), speech.validation, speech.test)
    for frames in LOG_MEL_FRAMES:
        parts = [_log_mels(model, part, number, frames) for part in splits]
        penalty, found[str(frames)] = chosen_and_tested(LinearProbe, *parts)
        found["penalties"][str(frames)] = penalty
    trained, tested = parts[0][1], parts[2][1]
    most_frequent = torch.bincount(trained[trained >= 0]).argmax()
    found["most_frequent"] = float((tested[tested >= 0] == most_frequent).double().mean())
    return found


def chosen_and_tested(
    kind: Any,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    penalty: float | None = None,
) -> tuple[float, float]:
    """The penalty that is best on validation, unless it is given, and the accuracy on the test part with it."""
    penalties = PENALTIES if penalty is None else (penalty,)
    probes = {candidate: kind(*train, penalty=candidate, iterations=ITERATIONS) for candidate in penalties}
    best = penalties[0] if len(probes) == 1 else max(probes, key=lambda one: probes[one].accuracy(*validation))
    return best, probes[best].accuracy(*test)


def _layers(
    model: Any, utterances: Sequence[LabelledAudio], number: FrameLabels, context: Any
) -> tuple[list[Tensor], Tensor]:
    """Frames `[M, D]` of each layer over all utterances, and their labels `[M]`."""
    by_utterance = [offline_frames(model, utterance.audio, context) for utterance in utterances]
    labels = [number(utterance, len(layers[0])) for utterance, layers in zip(utterances, by_utterance, strict=True)]
    return [torch.cat(layer) for layer in zip(*by_utterance, strict=True)], torch.cat(labels)


def _log_mels(
    model: Any, utterances: Sequence[LabelledAudio], number: FrameLabels, frames: int
) -> tuple[Tensor, Tensor]:
    """The last `frames` feature frames that each encoder frame has heard, stacked `[M, frames * D]`, and labels."""
    tokens = frames // number.factor
    stacked, labels = [], []
    for utterance in utterances:
        newest = log_mel_frames(model, utterance.audio, number.shift)  # [S, factor * D]
        padded = torch.cat([newest.new_zeros(tokens - 1, newest.shape[1]), newest])
        stacked.append(padded.unfold(0, tokens, 1).transpose(1, 2).flatten(1))
        labels.append(number(utterance, len(newest)))
    return torch.cat(stacked), torch.cat(labels)
