"""How many encoder frames after its own each output of a whole encoder has heard."""

from typing import Any

from nemo.collections.asr.parts.attention_context.context import AttentionContext

__all__ = ["frames_ahead"]


def frames_ahead(encoder: Any, context: AttentionContext) -> tuple[int, ...] | None:
    """The look-ahead of each position under a context, through attention and convolutions of all layers.

    In chunks, a position early in its chunk hears more of what follows than a late one: `(3, 2, 1, 0)` in chunks of 4.
    Without chunks each layer looks further ahead:

        >>> frames_ahead(model.encoder, AttentionContext(left=8, right=3))  # four layers
        (12,)

    Args:
        encoder: a `ConformerEncoder`.
        context: one that the encoder can take.

    Returns:
        In encoder frames, for the positions of one chunk; position `k` of an utterance has entry `k % len(...)`. One
        entry where there are no chunks. None if the look-ahead is unlimited. What an encoder frame itself hears of the
        feature frames after it is not counted.
    """
    if context.right < 0 or getattr(encoder, "global_tokens", 0) > 0:
        return None
    chunk = _chunk(encoder.att_context_style, context)
    convolution = encoder.conv_context_size[1]
    ahead = []
    for position in range(chunk or 1):
        last = position
        for _ in range(len(encoder.layers)):
            # In a layer the convolution follows attention, so seen from the output it comes first.
            last += convolution
            if chunk is None:
                last += context.right
            else:
                beyond = 0 if context.chunk is None else context.right
                last = last // chunk * chunk + chunk - 1 + beyond
        ahead.append(last - position)
    return tuple(ahead)


def _chunk(style: str, context: AttentionContext) -> int | None:
    """Encoder frames in a chunk; None for a style without chunks."""
    if style == "chunked_limited":
        return context.right + 1
    return context.chunk if style == "chunked_limited_with_rc" else None
