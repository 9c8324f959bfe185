"""What one attention layer of a streaming encoder sees."""

import difflib
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["CONTEXT_PRESETS", "AttentionContext"]

CONTEXT_PRESETS: Mapping[str, tuple[int, int]] = {
    "very_low": (80, 0),
    "low": (160, 0),
    "medium": (240, 0),
    "high": (320, 0),
    "unlimited": (-1, 0),
}
"""Named contexts, in encoder frames. A model's own `context_presets` adds to them or overrides them."""


@dataclass(frozen=True)
class AttentionContext:
    """How many encoder frames each position sees in one attention layer.

    The reach of a whole encoder is larger: every layer adds its own context and its convolution's kernel.
    """

    left: int
    """Encoder frames seen to the left, -1 for all of them."""

    right: int
    """Encoder frames seen to the right, 0 for none, -1 for all of them."""

    chunk: int | None = None
    """Encoder frames in a chunk; only the style `chunked_limited_with_rc` has it, where -1 stands for no limit."""

    @classmethod
    def parse(
        cls, value: Any, presets: Mapping[str, Sequence[int]] | None = None, name: str = "context"
    ) -> "AttentionContext":
        """Reads a preset's name, a pair `[left, right]`, or three numbers `[left, chunk, right]`.

        Args:
            value: what a user or a config gives: str, list, tuple, OmegaConf list, or an `AttentionContext`.
            presets: names and their contexts besides (or instead of) those in `CONTEXT_PRESETS`.
            name: what the error messages call the value.

        Raises:
            TypeError: `value` is neither a name nor a sequence of whole numbers.
            ValueError: the name is unknown, or a number is below -1, or there are not two or three of them.
        """
        if isinstance(value, AttentionContext):
            return value
        if isinstance(value, str):
            return cls.parse(_preset(value, presets, name), name=f"{name} preset '{value}'")
        allowed = "a preset's name or two whole numbers [left, right], each -1 (unlimited) or more"
        if isinstance(value, (bytes, Mapping)) or not isinstance(value, Sequence):
            raise TypeError(f"{name} must be {allowed}; got {value!r}")
        sizes = list(value)
        for size in sizes:
            if isinstance(size, bool) or not isinstance(size, numbers.Integral):
                raise TypeError(f"{name} must be {allowed}; got {sizes!r}, in which {size!r} is no whole number")
        if len(sizes) not in (2, 3) or min(sizes) < -1:
            raise ValueError(
                f"{name} must be {allowed}, or three, [left, chunk, right], under att_context_style "
                f"'chunked_limited_with_rc'; got {sizes!r}"
            )
        sizes = [int(size) for size in sizes]
        if len(sizes) == 3:
            return cls(left=sizes[0], chunk=sizes[1], right=sizes[2])
        return cls(left=sizes[0], right=sizes[1])

    @classmethod
    def parse_all(cls, value: Any, name: str) -> tuple["AttentionContext", ...]:
        """Reads a config's `att_context_size`: one context, or a list of them (at least one).

        Raises:
            TypeError, ValueError: as `parse`, naming the entry; an empty list is refused too.
        """
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
            raise TypeError(f"{name} must be [left, right] or a list of such pairs; got {value!r}")
        if len(value) == 0:
            raise ValueError(f"{name} must be [left, right] or a list of such pairs; got an empty list")
        if isinstance(value[0], numbers.Number):
            return (cls.parse(value, name=name),)
        return tuple(cls.parse(entry, name=f"{name}[{index}]") for index, entry in enumerate(value))

    def check_style(self, style: str, name: str = "context") -> None:
        """Refuses a context that an attention style cannot take.

        Args:
            style: the encoder's `att_context_style`: `regular`, `chunked_limited` or `chunked_limited_with_rc`.
            name: what the error messages call the context.

        Raises:
            ValueError: naming the context, the style and what the style allows.
        """
        if style == "chunked_limited_with_rc":
            self._check_chunks_with_right_context(name)
        elif self.chunk is not None:
            raise ValueError(
                f"{name} must be two numbers, [left, right], under att_context_style '{style}'; got {self}. Three are "
                "for 'chunked_limited_with_rc'"
            )
        elif style == "chunked_limited" and self.left > 0 and self.right >= 0 and self.left % (self.right + 1):
            chunk = self.right + 1
            raise ValueError(
                f"{name} must have a left context that is a multiple of right + 1 = {chunk} under att_context_style "
                f"'chunked_limited', such as {max(1, self.left // chunk) * chunk}; got {self}"
            )

    def _check_chunks_with_right_context(self, name: str) -> None:
        unlimited = self.as_list() == [-1, -1, -1]
        if self.chunk is None or not (unlimited or (self.left >= 0 and self.chunk >= 1 and self.right >= 0)):
            raise ValueError(
                f"{name} must be [left, chunk, right] with left >= 0, chunk >= 1, right >= 0, or [-1, -1, -1] for no "
                f"limit, under att_context_style 'chunked_limited_with_rc'; got {self}"
            )

    def check_local_attention(self, name: str = "context") -> None:
        """Refuses a context that local attention (`rel_pos_local_attn`) cannot take.

        Raises:
            ValueError: a side is unlimited, or both are 0.
        """
        if self.chunk is not None or min(self.left, self.right) < 0 or max(self.left, self.right) == 0:
            raise ValueError(
                f"{name} must be [left, right] with both sides >= 0 and at least one above 0 for local attention "
                f"(self_attention_model 'rel_pos_local_attn'); got {self}"
            )

    def as_list(self) -> list[int]:
        """The context in the form of NeMo's `att_context_size`: `[left, right]` or `[left, chunk, right]`."""
        return [self.left, self.right] if self.chunk is None else [self.left, self.chunk, self.right]

    @property
    def label(self) -> str:
        """The context in a metric's name: `80_0`."""
        return "_".join(str(size) for size in self.as_list())

    def __str__(self) -> str:
        return str(self.as_list())


def _preset(preset: str, presets: Mapping[str, Sequence[int]] | None, name: str) -> Sequence[int]:
    known = {**CONTEXT_PRESETS, **(presets or {})}
    if preset in known:
        return known[preset]
    nearest = difflib.get_close_matches(preset, known, n=1, cutoff=0.0)[0]
    raise ValueError(
        f"{name} must be one of the presets {', '.join(map(repr, known))}; got '{preset}'. Did you mean '{nearest}'?"
    )
