"""What a masked token prediction model is given, as features: the clean speech, and what the encoder hears."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["SpeechFeatures", "drop_none", "features_of", "only_one"]


@dataclass(frozen=True)
class SpeechFeatures:
    """A batch as the model sees it: targets are made of the clean features, the encoder hears the noisy ones."""

    clean: Tensor
    """`[B, D, T]`."""

    clean_lengths: Tensor
    """`[B]`, in feature frames."""

    noisy: Tensor
    """`[B, D, T]`; the same tensor as `clean` where there is no noise."""

    noisy_lengths: Tensor
    """`[B]`, in feature frames."""

    @classmethod
    def without_noise(cls, features: Tensor, lengths: Tensor) -> "SpeechFeatures":
        """Clean speech, `[B, D, T]` and `[B]`, for targets and encoder alike."""
        return cls(features, lengths, features, lengths)


def features_of(
    preprocessor: nn.Module, arguments: dict[str, Tensor], audio: str, features: str
) -> tuple[Tensor, Tensor]:
    """Features `[B, D, T]` and lengths `[B]`, computed from audio where they are not given.

    Args:
        preprocessor: computes features.
        arguments: those of a forward that are not None, by name.
        audio: the name of the audio `[B, N]`; its lengths are called `{audio}_length`.
        features: the name of the features `[B, D, T]`; their lengths are called `{features}_length`.

    Raises:
        ValueError: neither of the two was given, or both, or no lengths.
    """
    present = [name for name in (audio, features) if name in arguments]
    if len(present) != 1:
        raise ValueError(
            f"forward must be given either {audio} or {features}; got {' and '.join(present) or 'neither'}"
        )
    (name,) = present
    if f"{name}_length" not in arguments:
        raise ValueError(f"forward must be given {name}_length [B] with {name}; got none")
    signal, lengths = arguments[name], arguments[f"{name}_length"]
    return (signal, lengths) if name == features else preprocessor(input_signal=signal, length=lengths)


def drop_none(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None: NeMo's type check takes no None for an optional tensor."""
    return {name: value for name, value in arguments.items() if value is not None}


def only_one(**names: Tensor | None) -> Tensor | None:
    """The value that was given under one of two names of an argument.

    Raises:
        ValueError: it was given under both.
    """
    present = drop_none(**names)
    if len(present) > 1:
        raise ValueError(f"only one of {' and '.join(present)} must be given, two names of one argument; got both")
    return next(iter(present.values()), None)
