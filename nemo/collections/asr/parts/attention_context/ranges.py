"""Ranges of attention contexts, as in dynamic chunk training.

U2 (https://arxiv.org/abs/2012.05481) trains with chunks of many sizes instead of a few. A range stands for all of its
contexts, each equally likely; samplers and checkpoints know the contexts alone.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["ContextRange"]

_KEYS = ("left", "step", "right", "chunk", "validate")


@dataclass(frozen=True)
class ContextRange:
    """Left contexts from one number to another, with each of some right contexts.

        att_context_size:
          - {left: [80, 320], step: 40, right: [0], validate: [[80, 0], [320, 0]]}

    - `left`: the first and the last left context, in encoder frames; both are in the range where `step` meets them.
    - `step`: encoder frames between left contexts, 1 unless given.
    - `right`: a list of right contexts in encoder frames, `[0]` unless given. Under `chunked_limited`, `chunk` may be
      given instead: a list of the encoder frames in a chunk, which are `right + 1`.
    - `validate`: the contexts of the range that validation evaluates; the first is that of evaluation, where the range
      is the first entry.
    """

    lefts: range
    rights: tuple[int, ...]
    validated: tuple[AttentionContext, ...]

    @classmethod
    def parse(cls, value: Mapping[str, Any], style: str, name: str) -> "ContextRange":
        """Reads a range of a config.

        Args:
            value: the keys above.
            style: the encoder's `att_context_style`.
            name: the config's key of the range.

        Raises:
            TypeError, ValueError: an unknown key or style, or a key's value that is not allowed, named by its own key.
        """
        if style not in ("regular", "chunked_limited"):
            raise ValueError(
                f"{name} must be [left, chunk, right] under att_context_style '{style}'; got the range {dict(value)}. "
                "Ranges are for 'regular' and 'chunked_limited'"
            )
        for key in value:
            if key not in _KEYS:
                nearest = difflib.get_close_matches(str(key), _KEYS, n=1, cutoff=0.0)[0]
                raise ValueError(
                    f"{name} must have the keys {', '.join(_KEYS)} alone; got '{key}'. Did you mean '{nearest}'?"
                )
        first, last = _numbers(value.get("left"), f"{name}.left", "two whole numbers [first, last] with first <= last")
        if first > last:
            raise ValueError(f"{name}.left must be [first, last] with first <= last; got {[first, last]}")
        step = check_whole_number(f"{name}.step", value.get("step", 1), minimum=1)
        found = cls(range(first, last + 1, step), _rights(value, style, name), ())
        for context in found.contexts:
            context.check_style(style, name)
        return cls(found.lefts, found.rights, found._points(value.get("validate"), f"{name}.validate"))

    @property
    def contexts(self) -> tuple[AttentionContext, ...]:
        """All contexts of the range."""
        return tuple(AttentionContext(left, right) for left, right in product(self.lefts, self.rights))

    def _points(self, value: Any, name: str) -> tuple[AttentionContext, ...]:
        allowed = "at least one context of the range"
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ValueError(f"{name} must be {allowed}, as in [[{self.lefts[0]}, {self.rights[0]}]]; got {value!r}")
        contexts = AttentionContext.parse_all(value, name=name)
        for context in contexts:
            if context.left not in self.lefts or context.right not in self.rights or context.chunk is not None:
                raise ValueError(
                    f"{name} must be {allowed}: left of {list(self.lefts[:2])}, ..., {self.lefts[-1]} and right of "
                    f"{list(self.rights)}; got {context}"
                )
        return contexts


def _rights(value: Mapping[str, Any], style: str, name: str) -> tuple[int, ...]:
    if "chunk" not in value:
        allowed = "a list of at least one whole number >= 0"
        return tuple(_numbers(value.get("right", [0]), f"{name}.right", allowed, count=None))
    if style != "chunked_limited":
        raise ValueError(
            f"{name}.chunk must be left out under att_context_style '{style}', which has no chunks; "
            f"got {value['chunk']!r}. Use {name}.right"
        )
    if "right" in value:
        raise ValueError(f"{name}.chunk must be left out where {name}.right is given; got {value['chunk']!r}")
    allowed = "a list of at least one whole number >= 1"
    return tuple(chunk - 1 for chunk in _numbers(value["chunk"], f"{name}.chunk", allowed, minimum=1, count=None))


def _numbers(value: Any, name: str, allowed: str, minimum: int = 0, count: int | None = 2) -> list[int]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} must be {allowed}; got {value!r}")
    if not value or (count is not None and len(value) != count):
        raise ValueError(f"{name} must be {allowed}; got {list(value)}")
    return [check_whole_number(name, number, minimum=minimum) for number in value]
