"""What each context sees, and what each way of masking leaves to predict there: the figures of a report."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS, MaskingWay
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.attention_context.reach import Span
from nemo.collections.asr.parts.utils.checks import check_whole_number
from nest_tools.masks import MaskSettings
from nest_tools.recipe import Recipe

MASKS_AT_ONCE = 256
"""Bounds the memory of a table."""


def context_table(
    recipe: Recipe,
    lengths: Sequence[int],
    contexts: Sequence[AttentionContext] | None = None,
    *,
    masks_per_utterance: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """A row of figures for each context.

    Args:
        lengths: the utterances, in feature frames.
        contexts: None for `recipe.contexts()`.
        masks_per_utterance: figures are means over all masks of all utterances.
        seed: of the masks. Every way of every context starts from it, so that `none` and `sliding` share their blocks.

    Returns:
        A row for each context, fit for JSON. Whatever has no limit is None, a left or right context too is -1.

    Raises:
        ValueError: there is no utterance, or no mask.
    """
    if not lengths:
        raise ValueError("lengths must hold at least one utterance; got none")
    check_whole_number("masks_per_utterance", masks_per_utterance, minimum=1)
    rows = []
    for context in tqdm(recipe.contexts() if contexts is None else contexts, "Contexts", disable=not progress):
        row = {**_context_figures(recipe, context), "masks": {}}
        if recipe.masking is not None:
            repeated = recipe.mask_lengths(lengths).repeat_interleave(masks_per_utterance)
            row["masks"] = {
                way.name: _mask_figures(recipe.masking, way, repeated, context.left, seed)
                for way in MASKING_WAYS.values()
            }
            longest = context.left * recipe.reach.factor
            row["utterances_within_window"] = sum(length <= longest for length in lengths)
        rows.append(row)
    return rows


def _context_figures(recipe: Recipe, context: AttentionContext) -> dict[str, Any]:
    reach = recipe.reach
    before, after = reach.frames(context)
    features = reach.feature_span(Span(-before, after))
    return {
        "context": context.as_list(),
        "label": context.label,
        "presets": recipe.preset_names(context),
        "trained": context in recipe.trained_contexts(),
        "left": context.left,
        "left_seconds": _figure(context.left * reach.frame_seconds) if context.left >= 0 else None,
        "right": context.right,
        "right_seconds": _figure(context.right * reach.frame_seconds) if context.right >= 0 else None,
        "latency_seconds": _figure(reach.latency(context)),
        "reach_left": _figure(before),
        "reach_left_seconds": _figure(-features.first * reach.hop),
        "reach_right": _figure(after),
        "reach_right_seconds": _figure(max(0, features.last - reach.factor + 1) * reach.hop),
    }


def _figure(value: float) -> float | None:
    """A figure for JSON: None for one without limit, and no digits that floating point has made up."""
    return None if math.isinf(value) else round(value, 9)


def _mask_figures(settings: MaskSettings, way: MaskingWay, lengths: Tensor, left: int, seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    audits = [
        settings.audit(settings.sample(way, batch, left, generator), batch, left)
        for batch in lengths.split(MASKS_AT_ONCE)
    ]
    targets = torch.cat([audit.targets for audit in audits]).double()
    return {
        "masked_fraction": float(torch.cat([audit.masked_fraction for audit in audits]).double().mean()),
        "targets": float(targets.mean()),
        "blind_targets": float(torch.cat([audit.blind_targets for audit in audits]).double().mean()),
        "without_target": float((targets == 0).double().mean()),
    }
