"""What pretraining asks for: masked prediction, future-token prediction, and how they meet (`model.objective`)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from nemo.collections.asr.parts.utils.checks import check_choice, check_number, check_whole_number

__all__ = ["COMBINATIONS", "Objective", "Shares"]

COMBINATIONS = ("one_forward", "two_forwards", "by_batch")


class Shares(NamedTuple):
    """The part that each term has in the loss of a batch; they sum to 1, or are both 0 where nothing can be asked."""

    masked: float
    future: float


@dataclass(frozen=True)
class Objective:
    """The section `model.objective`; without it, pretraining is masked prediction alone.

    Only the ratio of the two weights counts: `{masked: 1, future: 3}` gives masked prediction a quarter of the loss.

    Raises (`of`, and the constructor):
        TypeError, ValueError: naming the key, what is allowed, and what was given.
    """

    masked: float = 1.0
    """Weight of masked prediction: hidden blocks of the features, predicted from what is left."""

    future: float = 0.0
    """Weight of future-token prediction: at every frame, the tokens after what the frame has heard."""

    steps: int = 2
    """N, the tokens that each frame predicts."""

    combination: str = "one_forward"
    """How the two meet.

    `one_forward`: both in one masked forward.
    `two_forwards`: masked prediction in a masked forward, future tokens in a clean one; twice the encoder's cost.
    `by_batch`: one of them for each micro-batch, with the weights as probabilities.
    """

    def __post_init__(self) -> None:
        for name in ("masked", "future"):
            check_number(f"model.objective.{name}", getattr(self, name), minimum=0)
        if self.masked == self.future == 0:
            raise ValueError(
                "model.objective.masked and model.objective.future must be numbers >= 0, one of them above 0; got 0 "
                "for both"
            )
        check_whole_number("model.objective.steps", self.steps, minimum=1)
        check_choice("model.objective.combination", self.combination, COMBINATIONS)

    @classmethod
    def of(cls, section: Mapping[str, Any] | None) -> "Objective":
        """Reads the section of a model's config; None is masked prediction alone."""
        if section is None:
            return cls()
        if not isinstance(section, Mapping):
            raise TypeError(f"model.objective must be a section of keys and values; got {section!r}")
        known = [field.name for field in fields(cls)]
        for key in section:
            check_choice("a key of model.objective", key, known)
        return cls(**section)

    @property
    def predicts_future(self) -> bool:
        """Whether future tokens are predicted at all."""
        return self.future > 0

    @property
    def masks(self) -> bool:
        """Whether anything is masked at all."""
        return self.masked > 0

    def shares(self, future_left: bool = True) -> Shares:
        """The parts of the two terms in the loss.

        Args:
            future_left: whether the context leaves future tokens that are not heard already. Otherwise the term is
                left out, and masked prediction, if it has a weight, is the whole loss.
        """
        future = self.future if future_left else 0.0
        total = self.masked + future
        return Shares(self.masked / total, future / total) if total else Shares(0.0, 0.0)

    def shares_of_batch(self, sample: float, future_left: bool = True) -> Shares:
        """The parts of the two terms in one training batch.

        Args:
            sample: uniform in [0, 1); under `by_batch` it chooses the term. Equal on all ranks.
            future_left: as for `shares`.
        """
        shares = self.shares(future_left)
        if self.combination != "by_batch" or shares == Shares(0.0, 0.0):
            return shares
        return Shares(1.0, 0.0) if sample < shares.masked else Shares(0.0, 1.0)
