"""How training chooses between several attention contexts."""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["ContextSampler", "normalized_probabilities"]


class ContextSampler:
    """Chooses one of several attention contexts for every training batch.

    The choice is a pure function of the seed and a running count, so all ranks that count alike choose alike, and a
    run that resumes with its count goes on as an unbroken one would.

        >>> sampler = ContextSampler([[80, 0], [-1, 0]], probabilities=[0.5, 0.5], seed=0)
        >>> sampler.next() == sampler.at(0)
        True
        >>> sampler.count
        1

    Args:
        contexts: contexts to choose from, each as `AttentionContext.parse` reads it.
        probabilities: one for each context, summing to 1 within 1e-6 (they are then normalised); None for equal ones.
            A context of probability 0 is never chosen.
        seed: any whole number.
        name: what the error messages call the probabilities.

    Raises:
        ValueError: no contexts, a wrong number of probabilities, a negative one, or a sum that is not 1.
    """

    def __init__(
        self,
        contexts: Sequence[Any],
        probabilities: Sequence[float] | None = None,
        seed: int = 0,
        name: str = "att_context_probs",
    ):
        self.contexts = AttentionContext.parse_all(contexts, name="contexts")
        self.probabilities = normalized_probabilities(probabilities, len(self.contexts), name)
        self.seed = check_whole_number("seed", seed)
        self.count = 0
        self._cumulative = _cumulative(self.probabilities)

    def at(self, count: int) -> AttentionContext:
        """The context of batch number `count`, whatever was chosen before."""
        return self.contexts[bisect_right(self._cumulative, self._uniform(count))]

    def remainder_at(self, count: int) -> float:
        """What the sample of batch number `count` can still choose, after the context.

        It is where the sample lies between the bounds of its context: uniform in [0, 1), and independent of the
        context.
        """
        uniform = self._uniform(count)
        index = bisect_right(self._cumulative, uniform)
        first = self._cumulative[index - 1] if index else 0.0
        # Rounding could give 1 where the bounds are close.
        return min((uniform - first) / (self._cumulative[index] - first), 1 - 2.0**-53)

    def _uniform(self, count: int) -> float:
        digest = hashlib.blake2b(f"{self.seed}:{count}".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) * 2.0**-53

    def next(self) -> AttentionContext:
        """The context of the next batch; counts it."""
        context = self.at(self.count)
        self.count += 1
        return context

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep for the choices to go on: the count, and what the choices depend on."""
        return {
            "seed": self.seed,
            "count": self.count,
            "contexts": [context.as_list() for context in self.contexts],
            "probabilities": list(self.probabilities),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict`, of which version 0.1.0 had the seed and the count alone.

        Raises:
            ValueError: the state is that of another seed, of other contexts or of other probabilities. The choices
                would be neither those of the earlier run nor those that the config describes. Nothing is changed.
        """
        ours = self.state_dict()
        for name, key in _CONFIG_KEYS.items():
            if name in state and not _equal(state[name], ours[name]):
                raise ValueError(
                    f"{key} must be {state[name]}, as in the run that the checkpoint is of; got {ours[name]}. Set it "
                    "back to resume that run, or start a new one from its weights "
                    "(+init_from_nemo_model or +init_from_ptl_ckpt)"
                )
        self.count = int(state["count"])


_CONFIG_KEYS = {
    "seed": "model.context_seed",
    "contexts": "encoder.att_context_size",
    "probabilities": "encoder.att_context_probs",
}


def _equal(theirs: Any, ours: Any) -> bool:
    if isinstance(ours, list) and ours and isinstance(ours[0], float):
        return len(theirs) == len(ours) and all(map(math.isclose, theirs, ours))
    return theirs == ours


def normalized_probabilities(probabilities: Sequence[float] | None, number: int, name: str) -> tuple[float, ...]:
    """Probabilities that sum to 1 as nearly as floating point can.

    Args:
        probabilities: `number` of them, or None (or an empty list, as NeMo takes it) for equal ones.
        number: how many contexts there are.
        name: what the error messages call the probabilities.

    Raises:
        ValueError: a wrong number of them, one that is negative or no number, or a sum that differs from 1 by more
            than 1e-6.
    """
    if not probabilities:
        return (1.0 / number,) * number
    values = [float(value) for value in probabilities]
    if len(values) != number:
        raise ValueError(f"{name} must have {number} entries, one for each context; got {values}")
    if any(not (math.isfinite(value) and value >= 0) for value in values):
        raise ValueError(f"{name} must be numbers >= 0; got {values}")
    total = math.fsum(values)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"{name} must sum to 1; got {values}, which sums to {total:.9g}")
    return tuple(value / total for value in values)


def _cumulative(probabilities: Sequence[float]) -> list[float]:
    """Running sums for a search by a number in [0, 1): the last context that can be chosen ends at exactly 1."""
    sums = list(accumulate(probabilities))
    last = max(index for index, probability in enumerate(probabilities) if probability > 0)
    return sums[:last] + [1.0] * (len(sums) - last)
