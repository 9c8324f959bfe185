"""What is compared: the arms, and how much each is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS

CONTEXTS = ([8, 0], [16, 0], [80, 0], [-1, 0])
BASE = {"masking.mask_prob": 0.02, "masking.block_size": 16}
DENSER = {"masking.mask_prob": 0.06, "masking.block_size": 24}


def masking(way: str) -> dict[str, Any]:
    """What one of `MASKING_WAYS` changes in the config of the base arm, which masks by `sliding`."""
    base, settings = MASKING_WAYS["sliding"].settings(), MASKING_WAYS[way].settings()
    return {f"masking.{option}": value for option, value in settings.items() if base.get(option) != value}


@dataclass(frozen=True)
class Arm:
    """One way to train: what it changes in the base arm's config."""

    name: str
    meaning: str
    config: Mapping[str, Any] = field(default_factory=dict)
    compared_with: str = "sliding"


ARMS = (
    Arm("sliding", "synced; masks everywhere, no target is blind (the base arm)"),
    Arm("unsynced", "NeMo's masks, whatever the context", masking("none")),
    Arm("random", "synced; a window anywhere", masking("random")),
    Arm("tail", "synced; the last window", masking("tail")),
    Arm("literal", "synced to the context counted in feature frames", masking("literal")),
    Arm("shift 0", "sliding; the token of frames not yet seen is predicted", {"target_shift": 0}),
    Arm("shift +1", "sliding; a token is predicted one frame later than it can be", {"target_shift": 2}),
    Arm("not normalised", "sliding; the tokenizer's input as it is", {"quantizer.normalize": "none"}),
    Arm("sliding, sparser", "sliding, with as many targets as tail", {"masking.mask_prob": 0.008}),
    Arm("sliding, denser", "as sliding, blocks of 24 at 0.06", DENSER, "sliding, denser"),
    Arm("unsynced, denser", "as unsynced, blocks of 24 at 0.06", {**masking("none"), **DENSER}, "sliding, denser"),
    Arm("tail, denser", "as tail, blocks of 24 at 0.06", {**masking("tail"), **DENSER}, "sliding, denser"),
)
BASE_ARM = ARMS[0]


def arm_named(name: str) -> Arm:
    """The arm of this name."""
    return next(arm for arm in ARMS if arm.name == name)


@dataclass(frozen=True)
class Size:
    """How much is trained on, and for how long."""

    minutes: float
    steps: int
    batch: int
    crop_seconds: float
    encoder: Mapping[str, int] = field(default_factory=dict)
    validation_minutes: float = 6.0
    """Speech of an evaluation, with `MASK_SETS` masks on each utterance: about 2000 targets."""


SIZES = {
    "tiny": Size(
        minutes=1, steps=4, batch=2, crop_seconds=6, encoder={"n_layers": 1, "d_model": 32}, validation_minutes=1
    ),
    "default": Size(minutes=40, steps=900, batch=8, crop_seconds=12),
    "large": Size(
        minutes=400,
        steps=10000,
        batch=32,
        crop_seconds=12,
        encoder={"n_layers": 16, "d_model": 176, "subsampling_conv_channels": 176},
    ),
}
SEEDS = 3
EVALUATIONS = 6
MASK_SETS = 2
PROBE_MINUTES = 10.0
"""Speech that the phone probe is fitted on."""
