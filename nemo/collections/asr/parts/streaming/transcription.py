"""The text of a live stream, equal to that of the offline model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from nemo.collections.asr.parts.attention_context import AttentionContext, find_conformer
from nemo.collections.asr.parts.streaming.encoder_stream import EncoderStream
from nemo.collections.asr.parts.streaming.greedy_decoding import GreedyCTC, GreedyDecoder, GreedyRNNT, TimedToken
from nemo.collections.asr.parts.utils.checks import check_choice

__all__ = ["Transcript", "TranscriptionStream"]


@dataclass(frozen=True)
class Transcript:
    """What a stream has said."""

    text: str = ""
    """All of it so far."""

    new: tuple[TimedToken, ...] = ()
    """The tokens that were not there before, with their encoder frames."""


class TranscriptionStream:
    """Transcribes audio while it arrives, and gives exactly the text of the offline model.

    Tokens and their encoder frames are those of NeMo's greedy decoding of the offline encoder's frames under the same
    context, however the audio was cut. What was given is never taken back.

        >>> with TranscriptionStream(model, "low") as stream:
        ...     for piece in microphone:
        ...         (said,) = stream.push(piece)
        ...         print(said.text)
        ...     (said,) = stream.finish()

    The model's mode, context and decoding stay as they are. Encoder and decoder run in evaluation mode.

    Args:
        model: a NeMo CTC, RNNT or hybrid model (with characters or subwords) with a causal Conformer encoder.
        context, batch_size, frames_per_step: as for `EncoderStream`.
        decoder: `ctc` or `rnnt`; None for the model's own, which is `rnnt` for a hybrid model.

    Raises:
        TypeError: a model without such a decoder, or as `EncoderStream`.
        ValueError: a decoder that the model lacks, or as `EncoderStream`.
    """

    def __init__(
        self,
        model: nn.Module,
        context: str | Sequence[int] | AttentionContext | None = None,
        batch_size: int = 1,
        frames_per_step: int = 1,
        *,
        decoder: str | None = None,
    ):
        self._model: Any = find_conformer(model)[0]
        self.decoder = _chosen(self._model, decoder)
        """`ctc` or `rnnt`."""
        self.encoder = EncoderStream(model, context, batch_size, frames_per_step)
        """The stream of encoder frames, for its context, its rates and its latency."""
        self._build()

    def push(self, audio: Tensor | np.ndarray, lengths: Any = None) -> list[Transcript]:
        """Takes the next samples of each stream, as `EncoderStream.push`, and returns what each has said.

        Raises:
            TypeError, ValueError: as `EncoderStream.push`; nothing has changed then.
        """
        return self._advance(*self.encoder.push(audio, lengths))

    def finish(self, stream: int | None = None) -> list[Transcript]:
        """Ends one stream, or all of them; the transcripts of all streams.

        Raises:
            TypeError, ValueError: as `EncoderStream.finish`.
        """
        return self._advance(*self.encoder.finish(stream))

    def reset(self, stream: int | None = None) -> None:
        """Restarts one stream, while the others go on, or all of them.

        Raises:
            TypeError, ValueError: as `EncoderStream.reset`.
        """
        self.encoder.reset(stream)
        if stream is None:
            self._build()
        else:
            self._decoding.reset(stream)
            self._tokens[stream], self._texts[stream] = [], ""

    def close(self) -> None:
        """Frees what the streams hold; `reset()` opens them again."""
        self.encoder.close()

    def __enter__(self) -> "TranscriptionStream":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    @property
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""
        return self.encoder.samples_per_step / self.encoder.frames_per_step / self.encoder.sample_rate

    @property
    def tokens(self) -> list[list[TimedToken]]:
        """All tokens of each stream since its beginning."""
        return [list(tokens) for tokens in self._tokens]

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self._text(list(ids))

    def _build(self) -> None:
        self._tokens: list[list[TimedToken]] = [[] for _ in range(self.encoder.batch_size)]
        self._texts = [""] * self.encoder.batch_size
        self._decoding, self._text = _decoding(self._model, self.decoder, self.encoder.batch_size)

    def _advance(self, frames: Tensor, lengths: Tensor) -> list[Transcript]:
        modules = [module for module in _decoder_modules(self._model, self.decoder) if module.training]
        for module in modules:
            module.eval()
        try:
            new = self._decoding.advance(frames, lengths)
        finally:
            for module in modules:
                module.train()
        for stream, found in enumerate(new):
            if found:
                self._tokens[stream] += found
                self._texts[stream] = self.text_of([token.id for token in self._tokens[stream]])
        return [Transcript(text, tuple(found)) for text, found in zip(self._texts, new, strict=True)]


def _decoders(model: Any) -> list[str]:
    """The decoders that a model has, its own first."""
    has_rnnt = hasattr(model, "joint")
    has_ctc = hasattr(model, "ctc_decoder") or (not has_rnnt and hasattr(model, "decoding"))
    return ["rnnt"] * has_rnnt + ["ctc"] * has_ctc


def _chosen(model: Any, decoder: str | None) -> str:
    decoders = _decoders(model)
    if not decoders:
        raise TypeError(f"model must be a NeMo CTC, RNNT or hybrid model; got a {type(model).__name__}")
    if decoder is not None:
        check_choice("decoder", decoder, decoders)
    chosen = decoder or decoders[0]
    if chosen == "rnnt" and getattr(model.joint, "num_extra_outputs", 0):
        raise ValueError(
            "model must have a plain RNNT joint network to be transcribed live; got one that predicts durations "
            f"(TDT), with {model.joint.num_extra_outputs} extra outputs"
        )
    return chosen


def _decoder_modules(model: Any, decoder: str) -> list[nn.Module]:
    return [model.decoder, model.joint] if decoder == "rnnt" else [getattr(model, "ctc_decoder", model.decoder)]


def _decoding(model: Any, decoder: str, batch_size: int) -> tuple[GreedyDecoder, Any]:
    """The greedy decoder, and what makes text of ids."""
    modules = _decoder_modules(model, decoder)
    if decoder == "ctc":
        return GreedyCTC(modules[0], batch_size), getattr(model, "ctc_decoding", model.decoding).decode_ids_to_str
    decoding = model.decoding
    max_symbols = getattr(decoding.decoding, "max_symbols", None)
    training = [module for module in modules if module.training]
    for module in training:
        module.eval()
    try:
        return GreedyRNNT(*modules, batch_size, max_symbols), decoding.decode_ids_to_str
    finally:
        for module in training:
            module.train()
