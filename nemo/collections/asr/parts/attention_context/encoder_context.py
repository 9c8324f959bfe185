"""The attention context of an encoder: one object owns it, and everything that needs it asks there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.attention_context.sampling import ContextSampler
from nemo.collections.asr.parts.utils.warn_once import warn_once

__all__ = ["EncoderContext", "EncoderContextState"]

_KEY = "encoder.att_context_size"


@dataclass(frozen=True)
class EncoderContextState:
    """A snapshot of an `EncoderContext`: `state` makes it, `restore` takes it."""

    att_context_size: Any
    """The evaluation context, in the form in which it was set."""

    pinned: bool
    masking_follows: bool

    sampled: AttentionContext | None
    """What the last training forward was given."""

    streaming_cfg: Any
    """NeMo's streaming parameters (chunk and cache sizes)."""


class EncoderContext:
    """Owns the attention context of a `ConformerEncoder`, which has it as `encoder.context`.

    - Evaluation uses `evaluation`. It is stored in NeMo's `encoder.att_context_size`, which may be set by hand.
    - Training uses `evaluation` while it is pinned, else a context that `sampler` chose for the micro-batch
      (`begin_batch`) or, outside of one, for the forward (`of_next_forward`). Without a sampler, NeMo chooses.
    - Masking uses the same left context while `masking_follows`.

    The mask processor's `left_context_size` is NeMo's counterpart of it: helpers and models write it, and forwards
    replace it for one call.

    Args:
        encoder: any encoder with the attributes of NeMo's `ConformerEncoder`.
    """

    def __init__(self, encoder: Any):
        self.encoder = encoder
        """The encoder whose context this is."""
        self.pinned = False
        """Whether training uses the evaluation context."""
        self.masking_follows = True
        """Whether masking uses the left context of attention."""
        self.sampler: ContextSampler | None = None
        """Samples the contexts of training; None leaves that to NeMo."""
        self.current: AttentionContext | None = None
        """The context of the last forward or micro-batch; None before the first."""
        self.remainder = 0.0
        """What the sample of the last forward or micro-batch can still choose: `ContextSampler.remainder_at`."""
        self.chooses_tasks = False
        """Whether the model chooses by `remainder`: then each training forward is counted, with one context too."""
        self._of_batch: AttentionContext | None = None
        self._sampled: AttentionContext | None = None

    @property
    def trained(self) -> tuple[AttentionContext, ...]:
        """The contexts that the encoder's config trains, in its order; those of a range are all there."""
        return AttentionContext.parse_all(self.encoder.att_context_size_all, name=_KEY)

    @property
    def validated(self) -> tuple[AttentionContext, ...]:
        """The contexts that validation evaluates: the trained ones, and of a range those that the config states."""
        sizes = getattr(self.encoder, "validated_context_sizes", self.encoder.att_context_size_all)
        return AttentionContext.parse_all(sizes, name=_KEY)

    @property
    def training_sampler(self) -> ContextSampler:
        """The sampler of an encoder whose training samples contexts; the model sets it when it is made."""
        assert self.sampler is not None
        return self.sampler

    @property
    def evaluation(self) -> AttentionContext:
        """The context of evaluation.

        Raises:
            TypeError, ValueError: `encoder.att_context_size` was set to something that is no context of this encoder.
        """
        return self.check(AttentionContext.parse(self.encoder.att_context_size, name=_KEY), name=_KEY)

    def check(self, context: AttentionContext, name: str = "context") -> AttentionContext:
        """Returns `context` if the encoder's attention can take it.

        Raises:
            ValueError: it cannot; the message names `name`, the context and what is allowed.
        """
        context.check_style(self.encoder.att_context_style, name)
        if self.encoder.self_attention_model == "rel_pos_local_attn":
            context.check_local_attention(name)
        return context

    def pin(self, context: AttentionContext, masking_follows: bool = True) -> None:
        """Sets the context of evaluation and of training. NeMo's streaming parameters follow.

        Raises:
            ValueError: as `check`; nothing is changed then.
        """
        self.check(context)
        trained = self.trained
        if context not in trained:
            warn_once(
                self.encoder,
                f"untrained context {context}",
                f"The encoder was not trained for the context {context}; it was trained for {_listed(trained)}.",
            )
        self.pinned = True
        self.masking_follows = masking_follows
        self.encoder.att_context_size = context.as_list()
        self.encoder.setup_streaming_params()
        self.encoder.follow_context_in_local_attention()

    def release(self) -> None:
        """Lets training sample its contexts, and masking follow attention. Evaluation keeps its context."""
        self.pinned = False
        self.masking_follows = True

    @contextmanager
    def evaluating(self, context: AttentionContext) -> Iterator[None]:
        """Within the block the evaluation context is `context`; it is put back afterwards, on an error too.

        For offline forwards: NeMo's streaming parameters stay as they are.
        """
        previous, self.encoder.att_context_size = self.encoder.att_context_size, context.as_list()
        try:
            yield
        finally:
            self.encoder.att_context_size = previous

    def begin_batch(self) -> AttentionContext:
        """Samples the context of a micro-batch. All of its training forwards use it, until `end_batch`."""
        self._of_batch = self._next()
        self._sampled = self._of_batch if self._samples else None
        self.current = self._sampled or self.evaluation
        return self.current

    def end_batch(self) -> None:
        """Ends the micro-batch; a forward recomputed later (activation checkpointing) still gets its context."""
        self._of_batch = None

    def of_next_forward(self) -> AttentionContext:
        """The one context of the forward that begins, for masking and attention.

        A training forward outside of a micro-batch samples one, and counts it.
        """
        samples = self.encoder.training and self._samples
        counts = samples or (self.encoder.training and self.chooses_tasks)
        chosen = (self._of_batch or self._next()) if counts else None
        self._sampled = chosen if samples else None
        self.current = self._sampled or self.evaluation
        return self.current

    def _next(self) -> AttentionContext:
        self.remainder = self.training_sampler.remainder_at(self.training_sampler.count)
        return self.training_sampler.next()

    @property
    def _samples(self) -> bool:
        return not self.pinned and len(self.training_sampler.contexts) > 1

    def of_attention(self, chosen_by_nemo: list[int]) -> list[int]:
        """What attention uses in training: the pinned or the sampled context, else NeMo's own choice.

        It holds until the next forward, so that a forward recomputed by activation checkpointing gets the same.
        """
        if self.pinned:
            return self.encoder.att_context_size
        return chosen_by_nemo if self._sampled is None else self._sampled.as_list()

    def leave_to_nemo(self) -> None:
        """Forgets what was sampled: training forwards get NeMo's choice until the next micro-batch begins."""
        self._of_batch = self._sampled = None

    def left_for_masking(self, context: AttentionContext) -> int | None:
        """The left context that masking uses in a forward under `context`; None for the mask processor's own."""
        return context.left if self.masking_follows else None

    def state(self) -> EncoderContextState:
        """What `restore` needs to undo any change of context."""
        return EncoderContextState(
            att_context_size=self.encoder.att_context_size,
            pinned=self.pinned,
            masking_follows=self.masking_follows,
            sampled=self._sampled,
            streaming_cfg=self.encoder.streaming_cfg,
        )

    def restore(self, state: EncoderContextState) -> None:
        """Goes back to an earlier `state`."""
        self.pinned, self.masking_follows, self._sampled = state.pinned, state.masking_follows, state.sampled
        self.encoder.att_context_size = state.att_context_size
        self.encoder.streaming_cfg = state.streaming_cfg
        for module in self.encoder.layers.modules():
            if hasattr(module, "_max_cache_len"):
                module.cache_drop_size = state.streaming_cfg.cache_drop_size
        self.encoder.follow_context_in_local_attention()


def _listed(contexts: Sequence[AttentionContext], most: int = 8) -> str:
    """The contexts in words; of the many in a range the first and the last."""
    if len(contexts) <= most:
        return ", ".join(map(str, contexts))
    return f"{len(contexts)} contexts from {contexts[0]} to {contexts[-1]}"
