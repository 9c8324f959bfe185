"""How much of an utterance is masked, as one value."""

from dataclasses import dataclass

from nemo.collections.asr.parts.utils.checks import check_number, check_whole_number

__all__ = ["MaskRecipe"]


@dataclass(frozen=True)
class MaskRecipe:
    """How many blocks of frames are masked, and how long they are; `RandomBlockMasking` has the same defaults.

    A frame is a frame of the masked features: a feature frame where masking comes before the encoder's convolutions,
    an encoder frame where it comes after them.

        >>> MaskRecipe(mask_prob=0.01, block_size=40, allow_overlap=True)
        MaskRecipe(mask_prob=0.01, block_size=40, allow_overlap=True, max_mask_ratio=0.8)
        >>> MaskRecipe(mask_prob=40)
        Traceback (most recent call last):
        ValueError: mask_prob must be a number from 0 to 1; got 40

    Raises:
        TypeError, ValueError: a field does not hold what is said below; the message names it.
    """

    mask_prob: float = 0.5
    """With `allow_overlap`, the probability that a block begins at a frame; without, the share of frames to mask. From
    0 to 1."""

    block_size: int = 48
    """Frames in a block, >= 1."""

    allow_overlap: bool = False
    """Whether blocks may overlap."""

    max_mask_ratio: float = 0.8
    """The largest share to mask of a window that is no longer than a block, from 0 to 1. Causal masking only."""

    def __post_init__(self) -> None:
        frames = "a whole number of frames >= 1"
        checked = {
            "mask_prob": check_number("mask_prob", self.mask_prob, 0, 1),
            "block_size": check_whole_number("block_size", self.block_size, 1, allowed=frames),
            "max_mask_ratio": check_number("max_mask_ratio", self.max_mask_ratio, 0, 1),
        }
        if self.allow_overlap not in (False, True):
            raise TypeError(f"allow_overlap must be True or False; got {self.allow_overlap!r}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
