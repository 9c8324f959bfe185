"""Which encoders, contexts and options a stream can take. Every check comes before anything is built."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.utils.checks import check_whole_number

if TYPE_CHECKING:
    from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder

__all__ = [
    "check_encoder",
    "first_history",
    "history_limit",
    "layer_indices",
    "streamable_context",
    "uses_cuda_graphs",
    "whole_chunks",
]

_FIRST_HISTORY = 128
"""Encoder frames that an unlimited history has room for at first; it doubles when they are full."""

_NORMS = ("layer_norm", "batch_norm", "fused_batch_norm")
"""Normalisations of the convolution module that need no statistics of the whole signal."""


def check_encoder(encoder: "ConformerEncoder") -> None:
    """Refuses an encoder whose offline frames no stream can give.

    Raises:
        ValueError: naming the setting of the encoder, and what a stream needs.
    """
    if encoder.self_attention_model != "rel_pos":
        raise ValueError(
            f"encoder.self_attention_model must be 'rel_pos' in a stream; got '{encoder.self_attention_model}'. "
            'Local attention can be changed back by encoder.change_attention_model("rel_pos", [left, right])'
        )
    right = encoder.conv_context_size[1]
    if right > 0:
        raise ValueError(
            f"encoder.conv_context_size must be causal in a stream; got {list(encoder.conv_context_size)}, so the "
            f"convolution of every layer needs {right} frames that have not arrived. "
            "Train the model with conv_context_size: causal"
        )
    norm = encoder.layers[0].conv.norm_type
    if norm not in _NORMS:
        raise ValueError(
            f"encoder.conv_norm_type must be one of {', '.join(map(repr, _NORMS))} in a stream; got '{norm}', "
            "which takes its statistics from the whole signal"
        )
    if encoder.reduction_position is not None:
        raise ValueError(f"encoder.reduction must be null in a stream; got one at layer {encoder.reduction_position}")
    adapted = [index for index, layer in enumerate(encoder.layers) if layer.is_adapter_available()]
    if adapted:
        raise ValueError(
            f"encoder.layers must have no enabled adapters in a stream; got some in the layers {adapted}. "
            "Disable them by model.set_enabled_adapters(enabled=False)"
        )


def streamable_context(
    encoder: "ConformerEncoder", context: Any, presets: Mapping[str, Any] | None
) -> AttentionContext:
    """The context of a stream; None for the encoder's own.

    Raises:
        TypeError, ValueError: no context of this encoder, or one that needs audio which has not arrived.
    """
    context = _checked_context(encoder, context, presets)
    style = encoder.att_context_style
    if style not in ("regular", "chunked_limited"):
        raise ValueError(
            "encoder.att_context_style must be 'regular' or 'chunked_limited' in a stream; "
            f"got '{style}', whose right context adds up over the layers"
        )
    if context.right < 0:
        raise ValueError(
            f"context must have a right context >= 0 in a stream; got {context}, which needs the whole signal. "
            f"Use [{context.left}, 0]"
        )
    if style == "regular" and context.right > 0:
        raise ValueError(
            f"context must have a right context of 0 under att_context_style 'regular'; got {context}, with which "
            f"each layer looks {context.right} frames ahead, {context.right * len(encoder.layers)} in all. "
            f"Use [{context.left}, 0], or a model of att_context_style 'chunked_limited'"
        )
    return context


def _checked_context(encoder: "ConformerEncoder", context: Any, presets: Mapping[str, Any] | None) -> AttentionContext:
    """The one place that asks the encoder about contexts."""
    if context is None:
        return encoder.context.evaluation
    return encoder.context.check(AttentionContext.parse(context, presets=presets))


def whole_chunks(frames_per_step: Any, chunk: int) -> int:
    """Encoder frames of a step: a multiple of the chunk; 1 stands for one chunk.

    Raises:
        TypeError, ValueError: another number.
    """
    frames = check_whole_number("frames_per_step", frames_per_step, minimum=1)
    if frames == 1:
        return chunk
    if frames % chunk:
        raise ValueError(
            f"frames_per_step must be a multiple of the chunk, right + 1 = {chunk} encoder frames; got {frames}. "
            f"Use {-(-frames // chunk) * chunk}"
        )
    return frames


def history_limit(context: AttentionContext, max_history: Any) -> int | None:
    """Encoder frames of history that are kept at most, None for all.

    Raises:
        TypeError, ValueError: `max_history` is no number of frames, or the left context is limited already.
    """
    if max_history is None:
        return context.left if context.left >= 0 else None
    if context.left >= 0:
        raise ValueError(
            f"max_history must be None where the left context is limited, as in context {context}; got {max_history!r}"
        )
    return check_whole_number("max_history", max_history, minimum=1)


def first_history(context: AttentionContext, limit: int | None) -> int:
    """Encoder frames of history that there is room for at first; an unlimited one grows, up to `limit`."""
    if context.left >= 0:
        return context.left
    return _FIRST_HISTORY if limit is None else min(limit, _FIRST_HISTORY)


def layer_indices(layers: Iterable[int] | None, count: int) -> list[int]:
    """Indices from 0 to `count - 1` in rising order; negative ones count from the end.

    Raises:
        TypeError, ValueError: not whole numbers, out of range, or twice the same layer.
    """
    allowed = f"different whole numbers from {-count} to {count - 1}, the layers of the encoder"
    if layers is None:
        return []
    if not isinstance(layers, Iterable) or isinstance(layers, str):
        raise TypeError(f"layers must be a list of {allowed}; got {layers!r}")
    layers = list(layers)
    checked = [check_whole_number(f"layers[{place}]", layer, -count, count - 1) for place, layer in enumerate(layers)]
    indices = {layer % count for layer in checked}
    if len(indices) < len(layers):
        raise ValueError(f"layers must be {allowed}; got {layers}")
    return sorted(indices)


def uses_cuda_graphs(
    cuda_graphs: bool | None, device: torch.device, context: AttentionContext, limit: int | None
) -> bool:
    """Whether steps on `device`, with `limit` encoder frames of history at most, are recorded as CUDA graphs.

    Raises:
        ValueError: graphs are asked for where there can be none.
    """
    if cuda_graphs and device.type != "cuda":
        raise ValueError(f"cuda_graphs must be None or False for a model on {device}; got True")
    if cuda_graphs and limit is None:
        raise ValueError(
            f"cuda_graphs must be None or False for context {context}, whose history grows with the stream; got True. "
            "Or give a max_history"
        )
    return cuda_graphs is not False and device.type == "cuda"
