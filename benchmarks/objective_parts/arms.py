"""What is compared: the arms, and how much each is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS

CONTEXTS = ([8, 0], [16, 0], [80, 0], [-1, 0])
CHOSEN_AT = [80, 0]
"""The context at which penalties of probes are chosen."""

ALL_LABELS = (5, 20, 60)
FEW_LABELS = (5,)
OTHER_PEAKS = (3e-4, 3e-3)

FIXED = "fixed statistics"
"""In `Arm.features`: normalised by mean and deviation of the training speech."""


def future(steps: int = 2) -> dict[str, Any]:
    """Future-token prediction alone."""
    return {"objective": {"masked": 0.0, "future": 1.0, "steps": steps}}


def both(combination: str, steps: int = 2) -> dict[str, Any]:
    """Masked and future-token prediction with equal weights."""
    return {"objective": {"masked": 1.0, "future": 1.0, "steps": steps, "combination": combination}}


def masking(way: str) -> dict[str, Any]:
    """One of `MASKING_WAYS`."""
    return {f"masking.{option}": value for option, value in MASKING_WAYS[way].settings().items()}


@dataclass(frozen=True)
class Arm:
    """One way to pretrain, or none."""

    name: str
    meaning: str
    books: int = 1
    """Codebooks of the tokenizer."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """What it changes in the config's section `model`."""

    fitted: bool = False
    """Whether projection and codebooks are fitted to the training speech (PCA and k-means)."""

    features: str = "NA"
    """How features are normalised: `NA`, or `FIXED`."""

    pretrained: bool = True
    share_of_steps: float = 1.0
    """Of the size's steps, for comparisons at equal compute."""

    label_minutes: tuple[int, ...] = FEW_LABELS
    """Minutes of labelled speech that it is fine-tuned on."""

    other_peaks: tuple[float, ...] = ()
    """Other learning rates of fine-tuning on 5 minutes that are tried, with seed 0."""

    compared_with: str = "none"


ARMS = (
    Arm("none", "random weights", pretrained=False, label_minutes=ALL_LABELS, other_peaks=OTHER_PEAKS),
    Arm(
        "masked",
        "masked prediction, `sliding`, the dynamic config's objective",
        label_minutes=ALL_LABELS,
        other_peaks=OTHER_PEAKS,
    ),
    Arm(
        "future",
        "the next 2 tokens at every frame, 4 books, nothing masked",
        4,
        future(),
        label_minutes=ALL_LABELS,
        other_peaks=OTHER_PEAKS,
    ),
    Arm("masked, 4 books", "masked prediction with 4 books", 4),
    Arm("both, one forward", "masked and future tokens in one masked forward", 4, both("one_forward")),
    Arm("both, by batch", "masked or future tokens, for each batch", 4, both("by_batch")),
    Arm("future, 1 book", "as `future`, 1 book", 1, future()),
    Arm("future, 16 books", "as `future`, 16 books", 16, future()),
    Arm("future, fitted", "as `future`, books fitted to the data", 4, future(), fitted=True),
    Arm("future, 1 fitted book", "as `future`, 1 book fitted to the data", 1, future(), fitted=True),
    Arm("masked, unsynced", "NeMo's masks, whatever the context", 1, masking("none")),
    Arm("masked, tail", "masks in the last window", 1, masking("tail")),
    Arm("none, fixed", "as `none`, features with fixed statistics", 1, features=FIXED, pretrained=False),
    Arm(
        "masked, fixed", "as `masked`, features with fixed statistics", 1, features=FIXED, compared_with="none, fixed"
    ),
    Arm(
        "future, fixed",
        "as `future`, features with fixed statistics",
        4,
        future(),
        features=FIXED,
        compared_with="none, fixed",
    ),
    Arm("future, N 1", "as `future`, the next token", 4, future(1)),
    Arm("future, N 4", "as `future`, the next 4 tokens", 4, future(4)),
    Arm(
        "both, two forwards", "masked tokens in a masked forward, future ones in a clean one", 4, both("two_forwards")
    ),
    Arm(
        "both, two forwards, half",
        "as `both, two forwards`, half the steps: the compute of one forward",
        4,
        both("two_forwards"),
        share_of_steps=0.5,
    ),
    Arm("future, equal compute", "as `future`, in the time of `masked`", 4, future(), share_of_steps=0.95),
    Arm(
        "masked, audible mask",
        "as `masked`, the mask has the features' mean in place of 0",
        1,
        {"masking.mask_value": -10.0},
    ),
    Arm("masked, 16 books", "masked prediction with 16 books", 16),
)


def arm_named(name: str) -> Arm:
    """The arm of this name."""
    return next(arm for arm in ARMS if arm.name == name)


@dataclass(frozen=True)
class Size:
    """How much is trained on, and for how long."""

    steps: int
    batch: int
    crop_seconds: float
    fine_tuning_steps: int
    fine_tuning_batch: int
    fine_tuning_seconds: float
    probe_minutes: float
    """Labelled speech that probes are fitted on."""

    encoder: Mapping[str, int] = field(default_factory=dict)
    num_classes: int = 256
    peak: float = 1.5e-3
    """Highest learning rate of pretraining."""

    fine_tuning_peak: float = 1e-3


SIZES = {
    "tiny": Size(
        steps=4,
        batch=2,
        crop_seconds=3,
        fine_tuning_steps=2,
        fine_tuning_batch=2,
        fine_tuning_seconds=3,
        probe_minutes=0.2,
        encoder={"n_layers": 1, "d_model": 32},
        num_classes=8,
    ),
    "default": Size(
        steps=1200,
        batch=10,
        crop_seconds=10,
        fine_tuning_steps=400,
        fine_tuning_batch=8,
        fine_tuning_seconds=6,
        probe_minutes=20,
        encoder={"n_layers": 4, "d_model": 144},
    ),
    "large": Size(
        steps=10000,
        batch=32,
        crop_seconds=12,
        fine_tuning_steps=2000,
        fine_tuning_batch=16,
        fine_tuning_seconds=12,
        probe_minutes=60,
        encoder={"n_layers": 16, "d_model": 176, "subsampling_conv_channels": 176},
    ),
}
SEEDS = 3
