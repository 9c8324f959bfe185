"""What each window masks and leaves to predict, for contexts from 8 to 320 encoder frames: the table of the guide.

    python benchmarks/masking_audit.py
    python benchmarks/masking_audit.py --utterances 10000 --seconds 16 --contexts 80 160 320 -1

Masks are drawn for utterances of equal length, before the convolutions: 100 frames a second, 8 to an encoder frame. A
target is an encoder frame that the loss counts, of which more than 80 % is masked. It is blind if it is wholly masked
and so are the `left` encoder frames before it: one attention layer then sees nothing but masked frames. "NeMo" masks
without regard to the context. The table is Markdown.
"""

import argparse

import torch

from nemo.collections.asr.modules.ssl_modules.mask_audit import MaskAudit, audit_masks
from nemo.collections.asr.modules.ssl_modules.masking import CausalSample, RandomBlockMasking

FACTOR, FRAMES_PER_SECOND = 8, 100
RECIPES = {
    "default": {"mask_prob": 0.01, "block_size": 40, "allow_overlap": True},
    "denser": {"mask_prob": 0.03, "block_size": 40, "allow_overlap": True},
}
WINDOWS = ("NeMo", "tail", "random", "sliding")
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


def draw(window: str, recipe: dict, left: int, lengths: torch.Tensor, seed: int) -> CausalSample:
    """One mask for each utterance, and what its window was."""
    torch.manual_seed(seed)
    frames = int(lengths.max())
    if window == "NeMo":
        return CausalSample(RandomBlockMasking(1, **recipe).sample(lengths, frames), None, None)
    masking = RandomBlockMasking(
        1, **recipe, causal=True, causal_window=window, left_context_size=left, subsampling_factor=FACTOR
    )
    return masking.sample_causal(lengths, frames)


def row(recipe: str, window: str, left: int, audit: MaskAudit) -> str:
    cells = (
        recipe,
        window,
        left,
        f"{audit.masked_fraction.mean():.1%}",
        f"{audit.targets.double().mean():.1f}",
        f"{(audit.targets == 0).double().mean():.1%}",
        f"{audit.blind_targets.double().mean():.3f}",
        f"{(audit.blind_targets > 0).double().mean():.1%}",
        f"{audit.opened_runs.double().mean():.3f}" if window == "sliding" else "-",
        int(audit.frames_outside.sum()),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    arguments = parse_arguments()
    lengths = torch.full((arguments.utterances,), int(arguments.seconds * FRAMES_PER_SECOND))
    print(
        f"{arguments.utterances} utterances of {arguments.seconds:g} s, seed {arguments.seed}; left in encoder frames"
    )
    for name, recipe in RECIPES.items():
        print(f"recipe {name}: {', '.join(f'{key}={value}' for key, value in recipe.items())}")
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name, recipe in RECIPES.items():
        for window in WINDOWS:
            for left in arguments.contexts:
                mask, span, opened = draw(window, recipe, left, lengths, arguments.seed)
                audit = audit_masks(mask, lengths, left, FACTOR, window=span, opened=opened)
                print(row(name, window, left, audit), flush=True)


if __name__ == "__main__":
    main()
