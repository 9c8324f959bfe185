"""The phone probe: accuracies at each context, live and offline, beside what they are to be compared with."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from omegaconf import open_dict
from torch import Tensor
from tqdm import tqdm

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context
from nest_tools.probe.classifier import LinearProbe
from nest_tools.probe.frames import log_mel_frames, offline_frames, streamed_frames
from nest_tools.probe.labels import FrameLabels, LabelledAudio

FramesOf = Callable[[Tensor], Tensor]
"""Gives frames [S, D] of audio [N]."""


def probe(
    model: EncDecDenoiseMaskedTokenPredModel,
    train: Sequence[LabelledAudio],
    test: Sequence[LabelledAudio],
    contexts: Sequence[Any],
    *,
    online: bool = True,
    baselines: bool = True,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Accuracy of a linear probe for each context, and of what it is to be compared with.

    Args:
        model: any NEST model of the streaming kind; put into evaluation mode.
        train, test: what the probe is fitted on, and tested on.
        contexts: as `set_dynamic_context` takes them.
        online: also tests on frames of an `EncoderStream`.
        baselines: adds rows for chance and for log-mels.

    Returns:
        A row for each context and baseline: `frames` says what it is of; `offline` and `online` are accuracies on all
        layers, `last_layer` that on the encoder's output alone, offline. None where there is none; where the encoder
        cannot stream, `not_streamed` says why.

    Raises:
        ValueError, TypeError: as `set_dynamic_context`, for any context, before anything is computed; or there is
            nothing to fit or to test on.
    """
    for name, utterances in (("train", train), ("test", test)):
        if not utterances:
            raise ValueError(f"{name} must hold at least one utterance; got none")
    model.eval()
    for context in contexts:
        with dynamic_context(model, context):
            pass  # it is one that the model takes
    number = FrameLabels(model, sorted({label for utterance in train for label, _, _ in utterance.phones}))
    rows = []
    for context in tqdm(contexts, desc="Probes", unit="context", disable=not progress):
        rows.append(_probe_context(model, train, test, context, number, online))
    if baselines:
        rows += _baselines(model, train, test, number)
    return rows


def _probe_context(
    model: EncDecDenoiseMaskedTokenPredModel,
    train: Sequence[LabelledAudio],
    test: Sequence[LabelledAudio],
    context: Any,
    number: FrameLabels,
    online: bool,
) -> dict[str, Any]:
    layers_of = cache(lambda audio: offline_frames(model, audio, context))

    def all_layers(audio: Tensor) -> Tensor:
        return torch.cat(layers_of(audio), dim=1)

    def live(audio: Tensor) -> Tensor:
        return torch.cat(streamed_frames(model, audio, context), dim=1)

    fitted, offline = _fit(train, test, all_layers, number)
    _, last_layer = _fit(train, test, lambda audio: layers_of(audio)[-1], number)
    row = {"frames": str(context), "offline": offline, "online": None, "last_layer": last_layer}
    if online:
        try:
            row["online"] = fitted.accuracy(*_labelled(test, live, number))
        except ValueError as error:
            row["not_streamed"] = str(error)
    return row


def _baselines(
    model: EncDecDenoiseMaskedTokenPredModel,
    train: Sequence[LabelledAudio],
    test: Sequence[LabelledAudio],
    number: FrameLabels,
) -> list[dict[str, Any]]:
    """Log-mels, and the phone that training has most often."""

    def log_mels(audio: Tensor) -> Tensor:
        return log_mel_frames(model, audio, number.shift)

    _, accuracy = _fit(train, test, log_mels, number)
    trained, tested = (_labelled(split, log_mels, number)[1] for split in (train, test))
    most_frequent = torch.bincount(trained[trained >= 0]).argmax()
    chance = float((tested[tested >= 0] == most_frequent).double().mean())
    return [
        {"frames": "log-mels", "offline": accuracy, "online": None, "last_layer": None},
        {"frames": "most frequent phone", "offline": chance, "online": None, "last_layer": None},
    ]


def _fit(
    train: Sequence[LabelledAudio], test: Sequence[LabelledAudio], frames_of: FramesOf, number: FrameLabels
) -> tuple[LinearProbe, float]:
    """A probe fitted on `train`, and its accuracy on `test`."""
    fitted = LinearProbe(*_labelled(train, frames_of, number))
    return fitted, fitted.accuracy(*_labelled(test, frames_of, number))


def _labelled(utterances: Sequence[LabelledAudio], frames_of: FramesOf, number: FrameLabels) -> tuple[Tensor, Tensor]:
    """Frames [N, D] of all utterances, and their labels [N]."""
    frames = [frames_of(utterance.audio) for utterance in utterances]
    numbers = [number(utterance, len(own)) for utterance, own in zip(utterances, frames, strict=True)]
    return torch.cat(frames), torch.cat(numbers)


def untrained(model: EncDecDenoiseMaskedTokenPredModel, seed: int = 0) -> EncDecDenoiseMaskedTokenPredModel:
    """A model of the same config with random weights."""
    config = model.cfg.copy()
    with open_dict(config):
        config.update(train_ds=None, validation_ds=None, test_ds=None)
    torch.manual_seed(seed)
    return type(model)(config)
