"""Encoder frames of whole utterances, at any attention context."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from nemo.collections.asr.parts.attention_context import AttentionContext, find_conformer
from nemo.collections.asr.parts.attention_context.helpers import dynamic_context
from nemo.collections.asr.parts.streaming.streamable import layer_indices

__all__ = ["encode"]


@overload
def encode(
    model: nn.Module,
    audio: Tensor | np.ndarray,
    lengths: Any = None,
    context: str | Sequence[int] | AttentionContext | None = None,
    layers: None = None,
) -> tuple[Tensor, Tensor]: ...


@overload
def encode(
    model: nn.Module,
    audio: Tensor | np.ndarray,
    lengths: Any = None,
    context: str | Sequence[int] | AttentionContext | None = None,
    layers: Sequence[int] | None = None,
) -> tuple[Tensor | list[Tensor], Tensor]: ...


@torch.no_grad()
def encode(
    model: nn.Module,
    audio: Tensor | np.ndarray,
    lengths: Any = None,
    context: str | Sequence[int] | AttentionContext | None = None,
    layers: Sequence[int] | None = None,
) -> tuple[Tensor | list[Tensor], Tensor]:
    """Encodes whole utterances, offline and in evaluation mode. `EncoderStream` gives the same frames live.

        >>> frames, lengths = encode(model, audio, context="low")       # [1, D, S], [1]
        >>> *lower, last = encode(model, audio, layers=[0, 1, 2])[0]

    Nothing of the model changes: mode, context and streaming parameters are restored, on an error too. No random
    numbers are used, and there is no collective communication.

    Args:
        model: any NeMo model that `set_dynamic_context` takes and that makes its features from audio.
        audio: [B, N], or [N] for one utterance; torch or NumPy, floating point scaled to [-1, 1], at the model's rate.
        lengths: how many of the N samples are each utterance's own, [B]; None for all.
        context: a preset's name or a pair `[left, right]` in encoder frames, as `set_dynamic_context` takes it; None
            for the model's own.
        layers: also give the output of these layers (negative ones count from the end): frames are then a list, the
            layers in rising order and the encoder's output last, as `EncoderStream` has it.

    Returns:
        Encoder frames [B, D, S], zero past each utterance's own, and how many there are, [B]. With `layers`, a list
        of such frames. All are on the model's device.

    Raises:
        TypeError: `model` has no Conformer encoder or no preprocessor, or an argument has a wrong type.
        ValueError: a wrong shape, lengths out of range, a context that the encoder cannot take, or unknown layers.
    """
    owner, encoder = find_conformer(model)
    preprocessor = getattr(owner, "preprocessor", None)
    if preprocessor is None:
        raise TypeError(f"model must be one that makes its features from audio; got a {type(owner).__name__}")
    parameter = next(encoder.parameters())
    signal, lengths = _batch(audio, lengths, parameter.device)
    wanted = layer_indices(layers, len(encoder.layers))
    with ExitStack() as restored:
        if context is not None:
            restored.enter_context(dynamic_context(owner, context))
        restored.enter_context(_evaluation_mode(preprocessor, encoder))
        restored.enter_context(_without_collectives(encoder))
        outputs = restored.enter_context(_layer_outputs(encoder, wanted))
        features, feature_lengths = preprocessor(input_signal=signal, length=lengths)
        encoded, encoded_lengths = encoder(audio_signal=features.to(parameter.dtype), length=feature_lengths)
    frames = [_own_frames(output, encoded_lengths) for output in (*outputs, encoded)]
    return (frames if wanted else frames[0]), encoded_lengths


def _batch(audio: Any, lengths: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples [B, N], N at least 1, and lengths [B], int64, both on `device`."""
    if not isinstance(audio, (Tensor, np.ndarray)):
        raise TypeError(f"audio must be a torch.Tensor or a numpy.ndarray; got a {type(audio).__name__}")
    signal = torch.as_tensor(audio)
    if not signal.is_floating_point():
        raise TypeError(f"audio must be floating point in [-1, 1]; got {signal.dtype}")
    if signal.dim() not in (1, 2):
        raise ValueError(f"audio must be [B, N], or [N] for one utterance; got {list(signal.shape)}")
    signal = torch.atleast_2d(signal).to(device, torch.float32)
    batch, samples = signal.shape
    counts = torch.full((batch,), samples) if lengths is None else torch.as_tensor(lengths)
    if counts.is_floating_point() or counts.dtype == torch.bool:
        raise TypeError(f"lengths must be whole numbers of samples; got {counts.dtype}")
    if counts.shape != (batch,):
        raise ValueError(f"lengths must be [B] = [{batch}]; got {list(counts.shape)}")
    if batch and not 0 <= int(counts.min()) <= int(counts.max()) <= samples:
        raise ValueError(f"lengths must be from 0 to N = {samples}; got {counts.tolist()}")
    if samples == 0:
        signal = signal.new_zeros(batch, 1)
    return signal, counts.to(device, torch.int64)


@contextmanager
def _evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Within the block, all of these are in evaluation mode; afterwards each of their modules is in its own again."""
    modes = [(module, module.training) for root in modules for module in root.modules()]
    try:
        for root in modules:
            root.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _without_collectives(encoder: Any) -> Iterator[None]:
    """Within the block, the encoder does not ask other ranks how long their audio is."""
    asks, encoder.sync_max_audio_length = encoder.sync_max_audio_length, False
    try:
        yield
    finally:
        encoder.sync_max_audio_length = asks


@contextmanager
def _layer_outputs(encoder: Any, layers: Sequence[int]) -> Iterator[list[Tensor]]:
    """Collects, within the block, what these layers give, each [B, D, S]."""
    outputs: list[Tensor] = []

    def collect(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append((output[0] if isinstance(output, tuple) else output).transpose(1, 2))

    hooks = [encoder.layers[layer].register_forward_hook(collect) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _own_frames(frames: Tensor, lengths: Tensor) -> Tensor:
    """As many frames [B, D, S] as the longest utterance has, zero past each utterance's own."""
    longest = int(lengths.max()) if len(lengths) else 0
    beyond = torch.arange(longest, device=frames.device) >= lengths[:, None]
    return frames[:, :, :longest].masked_fill(beyond[:, None, :], 0.0)
