"""What each window masks and leaves to predict, for contexts from 8 to 320 encoder frames: the table of the guide.

    python benchmarks/masking_audit.py
    python benchmarks/masking_audit.py --utterances 10000 --seconds 16 --contexts 80 160 320 -1

Masks are sampled for utterances of equal length, before the convolutions: 100 frames a second, 8 to an encoder frame.
A target is an encoder frame that the loss counts, of which more than 80 % is masked. It is blind if it is wholly
masked and so are the `left` encoder frames before it: one attention layer then sees nothing but masked frames. "NeMo"
masks without regard to the context. The table is Markdown.
"""

import argparse

import scripts_path  # noqa: F401  nest_tools is imported from there
import torch
from nest_tools.masks import MaskSettings
from tqdm import tqdm

from nemo.collections.asr.modules.ssl_modules.mask_audit import MaskAudit
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS, MaskingWay
from nemo.collections.asr.parts.utils.markdown import markdown_table

FACTOR, FRAMES_PER_SECOND = 8, 100
RECIPES = {
    "default": {"mask_prob": 0.01, "block_size": 40, "allow_overlap": True},
    "denser": {"mask_prob": 0.03, "block_size": 40, "allow_overlap": True},
}
WINDOWS = {way.causal_window or "NeMo": way for way in MASKING_WAYS.values() if not way.in_feature_frames}
COLUMNS = (
    "recipe",
    "window",
    "left",
    "masked",
    "targets per utterance",
    "without targets",
    "blind targets per utterance",
    "utterances with blind",
    "runs opened per utterance",
    "frames outside",
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=16.0, help="length of an utterance")
    parser.add_argument("--contexts", type=int, nargs="+", default=[8, 16, 40, 80, 160, 320, -1])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def audit(way: MaskingWay, recipe: dict, left: int, lengths: torch.Tensor, seed: int) -> MaskAudit:
    """The audit of one mask for each utterance."""
    settings = MaskSettings(
        MaskRecipe(**recipe, max_mask_ratio=0.8),
        frames_per_encoder_frame=FACTOR,
        target_threshold=0.8,
        own_way=way.name,
    )
    sampled = settings.sample(way, lengths, left, torch.manual_seed(seed))
    return settings.audit(sampled, lengths, left)


def row(recipe: str, window: str, left: int, found: MaskAudit) -> tuple:
    return (
        recipe,
        window,
        left,
        f"{found.masked_fraction.mean():.1%}",
        f"{found.targets.double().mean():.1f}",
        f"{(found.targets == 0).double().mean():.1%}",
        f"{found.blind_targets.double().mean():.3f}",
        f"{(found.blind_targets > 0).double().mean():.1%}",
        f"{found.opened_runs.double().mean():.3f}" if window == "sliding" else "-",
        int(found.frames_outside.sum()),
    )


def main() -> None:
    arguments = parse_arguments()
    lengths = torch.full((arguments.utterances,), int(arguments.seconds * FRAMES_PER_SECOND))
    print(
        f"{arguments.utterances} utterances of {arguments.seconds:g} s, seed {arguments.seed}; left in encoder frames"
    )
    for name, recipe in RECIPES.items():
        print(f"recipe {name}: {', '.join(f'{key}={value}' for key, value in recipe.items())}")
    wanted = [(name, window, left) for name in RECIPES for window in WINDOWS for left in arguments.contexts]
    rows = [
        row(name, window, left, audit(WINDOWS[window], RECIPES[name], left, lengths, arguments.seed))
        for name, window, left in tqdm(wanted, unit="row", leave=False)
    ]
    print(f"\n{markdown_table(COLUMNS, rows)}")


if __name__ == "__main__":
    main()
