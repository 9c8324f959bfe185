"""The frames that probes are fitted on: encoder frames, offline and live, and log-mels."""

from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, dynamic_context, encode


def offline_frames(model: Any, audio: Tensor, context: Any) -> list[Tensor]:
    """Frames [S, D] of each layer for audio [N], the encoder's output in place of the last layer's."""
    frames, _ = encode(model, audio, context=context, layers=range(len(model.encoder.layers) - 1))
    return [layer[0].T for layer in (frames if isinstance(frames, list) else [frames])]


def streamed_frames(model: Any, audio: Tensor, context: Any, chunk_seconds: float = 0.5) -> list[Tensor]:
    """As `offline_frames`, computed live from pieces of audio.

    Raises:
        ValueError: the encoder cannot stream; the message says why.
    """
    with dynamic_context(model, context) as sizes:
        whole_chunks = 4 * (max(0, sizes[-1]) + 1)
    layers = range(len(model.encoder.layers) - 1)
    with EncoderStream(model, context, frames_per_step=whole_chunks, layers=layers) as stream:
        pieces = audio.split(int(stream.sample_rate * chunk_seconds))
        given = [*(stream.push(piece)[0] for piece in pieces), stream.finish()[0]]
    of_layers = zip(*(frames if isinstance(frames, list) else [frames] for frames in given), strict=True)
    return [torch.cat(frames, dim=2)[0].T for frames in of_layers]


@torch.inference_mode()
def log_mel_frames(model: Any, audio: Tensor, shift: int) -> Tensor:
    """The log-mels of the token that each encoder frame has newly seen, stacked: [S, factor * D]."""
    features, length = model.preprocessor(input_signal=audio[None], length=torch.tensor([len(audio)]))
    factor = model.encoder.subsampling_factor
    stacked = features[0, :, : int(length) // factor * factor].T.reshape(-1, factor * features.shape[1])
    return torch.cat([torch.zeros(shift, stacked.shape[1]), stacked])
