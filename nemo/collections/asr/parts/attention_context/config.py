"""The contexts in an encoder's config: `att_context_size`, `att_context_probs`, `att_context_style`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.attention_context.ranges import ContextRange
from nemo.collections.asr.parts.attention_context.sampling import normalized_probabilities

__all__ = ["ConfiguredContexts"]

_KEY = "encoder.att_context_size"


@dataclass(frozen=True)
class ConfiguredContexts:
    """What an encoder's config says about its contexts."""

    trained: tuple[AttentionContext, ...]
    """The contexts that training samples from; those of a range are all there."""

    probabilities: tuple[float, ...]
    """One for each trained context."""

    validated: tuple[AttentionContext, ...]
    """The contexts that validation evaluates: the trained ones, and of a range those that it states."""

    @classmethod
    def read(
        cls, sizes: Any, probabilities: Sequence[float] | None, style: str, self_attention_model: str
    ) -> "ConfiguredContexts":
        """Reads the keys of the config that have these names in NeMo.

        Args:
            sizes: `att_context_size`: a context, or a list whose entries are contexts or ranges; None for no limit.
            probabilities: `att_context_probs`, one for each entry; None for equal ones.
            style: `att_context_style`.
            self_attention_model: `self_attention_model`.

        Raises:
            TypeError, ValueError: by the key that is wrong, what is allowed and what was given.
        """
        if style == "chunked_limited_with_rc" and not _has_range(sizes):
            sizes = [[-1, -1, -1]]  # NeMo ignores what the config says
        entries = _entries([-1, -1] if sizes is None else sizes, style, self_attention_model)
        shares = normalized_probabilities(probabilities, len(entries), name="encoder.att_context_probs")
        trained: list[AttentionContext] = []
        validated: list[AttentionContext] = []
        each: list[float] = []
        for entry, share in zip(entries, shares, strict=True):
            contexts = entry.contexts if isinstance(entry, ContextRange) else (entry,)
            trained += contexts
            each += [share / len(contexts)] * len(contexts)
            validated += entry.validated if isinstance(entry, ContextRange) else (entry,)
        if len(trained) > len(entries):
            validated = list(dict.fromkeys(validated))
        return cls(tuple(trained), tuple(each), tuple(validated))


def _has_range(sizes: Any) -> bool:
    entries = sizes if isinstance(sizes, Sequence) and not isinstance(sizes, str) else [sizes]
    return any(isinstance(entry, Mapping) for entry in entries)


def _entries(sizes: Any, style: str, self_attention_model: str) -> list[AttentionContext | ContextRange]:
    if not _has_range(sizes):
        contexts = AttentionContext.parse_all(sizes, name=_KEY)
        for context in contexts:
            context.check_style(style, _KEY)
        _check_single(contexts, style, self_attention_model)
        return list(contexts)
    if self_attention_model == "rel_pos_local_attn":
        raise ValueError(
            f"{_KEY} must be one context for local attention (self_attention_model 'rel_pos_local_attn'); got a "
            "range. Use 'rel_pos' to train with several"
        )
    entries: list[AttentionContext | ContextRange] = []
    for index, entry in enumerate([sizes] if isinstance(sizes, Mapping) else sizes):
        name = f"{_KEY}[{index}]"
        if isinstance(entry, Mapping):
            entries.append(ContextRange.parse(entry, style, name))
        else:
            context = AttentionContext.parse(entry, name=name)
            context.check_style(style, name)
            entries.append(context)
    return entries


def _check_single(contexts: Sequence[AttentionContext], style: str, self_attention_model: str) -> None:
    """What is allowed where there is one context, or must be."""
    if style == "chunked_limited" and len(contexts) == 1 and contexts[0].right < 0:
        raise ValueError(
            f"{_KEY} must have a right context >= 0 where it is the only one under att_context_style "
            f"'chunked_limited'; got {contexts[0]}. Use att_context_style 'regular' for an unlimited right context"
        )
    if self_attention_model == "rel_pos_local_attn":
        if len(contexts) > 1:
            raise ValueError(
                f"{_KEY} must be one context for local attention (self_attention_model 'rel_pos_local_attn'); got "
                f"{len(contexts)}. Use 'rel_pos' to train with several"
            )
        contexts[0].check_local_attention(_KEY)
