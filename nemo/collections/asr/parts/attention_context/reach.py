"""How far a whole encoder sees, and how long its output waits for audio."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from nemo.collections.asr.parts.attention_context.context import AttentionContext

__all__ = ["EncoderReach", "Span", "chunk_frames", "subsampled_lengths", "subsampling_span"]

_STRIDING = ("striding", "dw_striding")


class Span(NamedTuple):
    """Frames from `first` to `last`, both included; infinite where there is no limit."""

    first: float
    last: float


@dataclass(frozen=True)
class EncoderReach:
    """Which frames reach which in an encoder, in an utterance without beginning or end.

    >>> reach = EncoderReach.of(model.encoder, model.preprocessor)
    >>> reach.latency(AttentionContext(160, 0))
    0.0125
    """

    layers: int

    style: str
    """`att_context_style`: `regular`, `chunked_limited` or `chunked_limited_with_rc`."""

    conv_left: int
    """Encoder frames that a layer's convolution sees before its own."""

    conv_right: int
    """Encoder frames that a layer's convolution sees after its own."""

    factor: int
    """Feature frames in an encoder frame: encoder frame k stands for those from `k * factor` on."""

    first_feature: int
    """Encoder frame k is computed from the feature frames `k * factor + first_feature ...`"""

    last_feature: int
    """`... k * factor + last_feature`."""

    hop: float
    """Seconds from one feature frame to the next."""

    window: float
    """Seconds of audio in a feature frame."""

    @classmethod
    def of(cls, encoder: Any, preprocessor: Any) -> "EncoderReach":
        """Reads it off the modules, which stay as they are.

        Args:
            encoder: a `ConformerEncoder`.
            preprocessor: an `AudioToMelSpectrogramPreprocessor`.

        Raises:
            ValueError: as `subsampling_span`.
        """
        featurizer = preprocessor.featurizer
        features = subsampling_span(encoder.pre_encode)
        conv_left, conv_right = encoder.conv_context_size
        return cls(
            layers=len(encoder.layers),
            style=encoder.att_context_style,
            conv_left=conv_left,
            conv_right=conv_right,
            factor=encoder.subsampling_factor,
            first_feature=int(features.first),
            last_feature=int(features.last),
            hop=featurizer.hop_length / featurizer.sample_rate,
            window=featurizer.win_length / featurizer.sample_rate,
        )

    @property
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""
        return self.factor * self.hop

    def layer_span(self, frame: float, context: AttentionContext) -> Span:
        """The encoder frames that one attention layer sees from `frame`."""
        if math.isinf(frame):
            return Span(frame, frame)
        chunk = chunk_frames(context, self.style)
        if chunk is None:
            first = -math.inf if context.left < 0 else frame - context.left
            return Span(first, math.inf if context.right < 0 else frame + context.right)
        begin = frame // chunk * chunk
        if context.chunk is None:  # chunked_limited: whole chunks to the left, nothing beyond the frame's own chunk
            left, right = context.left // chunk * chunk, 0
        else:
            left, right = context.left, context.right
        first = -math.inf if context.left < 0 else begin - left
        return Span(first, math.inf if context.right < 0 else begin + chunk - 1 + right)

    def stack_span(self, frame: float, context: AttentionContext) -> Span:
        """The encoder frames, as they leave the subsampling, from which the encoder's output at `frame` is computed.

        In each layer the convolution comes after attention, so seen from the output it comes first.
        """
        first = last = frame
        for _ in range(self.layers):
            first = self.layer_span(first - self.conv_left, context).first
            last = self.layer_span(last + self.conv_right, context).last
        return Span(first, last)

    def frames(self, context: AttentionContext) -> tuple[float, float]:
        """How many encoder frames before and after its own an output is computed from, at most over a chunk."""
        spans = [(frame, self.stack_span(frame, context)) for frame in range(chunk_frames(context, self.style) or 1)]
        return max(frame - span.first for frame, span in spans), max(span.last - frame for frame, span in spans)

    def latency(self, context: AttentionContext) -> float:
        """Seconds of audio that an output waits for, at most, however fast the computer is.

        They are counted from the centre of the newest feature frame that the output's own encoder frame sees: the
        look-ahead of the whole encoder, and half an analysis window (at least one hop).
        """
        _, after = self.frames(context)
        return after * self.frame_seconds + max(self.window / 2, self.hop)

    def feature_span(self, span: Span) -> Span:
        """The feature frames from which the encoder frames of `span` are computed."""
        return Span(span.first * self.factor + self.first_feature, span.last * self.factor + self.last_feature)


def chunk_frames(context: AttentionContext, style: str) -> int | None:
    """Encoder frames in a chunk; None where positions are not grouped into chunks.

    Args:
        style: `att_context_style` of the encoder.
    """
    if style == "chunked_limited" and context.right >= 0:
        return context.right + 1
    if context.chunk is not None and context.chunk > 0:
        return context.chunk
    return None


def subsampling_span(pre_encode: nn.Module) -> Span:
    """The feature frames from which encoder frame 0 is computed; those before 0 are padding.

    A strided convolution of kernel K that is padded by P on the left reads, for output k, the inputs `2k - P` to
    `2k - P + K - 1`; the stages are chained. (Dumoulin and Visin, "A guide to convolution arithmetic for deep
    learning", 2016.)

    Args:
        pre_encode: the encoder's subsampling, with or without the wrapper that masks after it.

    Raises:
        ValueError: a subsampling of which this is not known.
    """
    module: Any = getattr(pre_encode, "pre_encode", pre_encode)
    kind = getattr(module, "_subsampling", type(module).__name__)
    if isinstance(module, nn.Linear):
        return Span(0, 0)
    if kind in _STRIDING:
        first = last = 0
        for _ in range(module._sampling_num):
            first = module._stride * first - module._left_padding
            last = module._stride * last - module._left_padding + module._kernel_size - 1
        return Span(first, last)
    if kind == "StackingSubsampling":
        return Span(0, module.subsampling_factor - 1)
    raise ValueError(
        f"encoder.subsampling must be one of {', '.join(_STRIDING)}, stacking, stacking_norm for its reach to be "
        f"known; got '{kind}'"
    )


def subsampled_lengths(pre_encode: nn.Module, lengths: Tensor) -> Tensor:
    """How many encoder frames utterances have, int64 [B].

    Args:
        pre_encode: as in `subsampling_span`.
        lengths: [B], in feature frames.

    Raises:
        ValueError: as `subsampling_span`.
    """
    span = subsampling_span(pre_encode)
    module: Any = getattr(pre_encode, "pre_encode", pre_encode)
    lengths = lengths.long()
    if not hasattr(module, "_sampling_num"):
        return -(-lengths // (int(span.last) + 1))
    padding = module._left_padding + module._right_padding - module._kernel_size
    for _ in range(module._sampling_num):
        lengths = (lengths + padding) // module._stride + 1
    return lengths
