"""The table of a report: what it counts, compared with counting by hand."""

import json

import numpy as np
import pytest
import torch
from context_examples import SpeechEncoder, dense, parse
from nest_tools.recipe import Recipe
from nest_tools.report import context_table

from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking


def counted_by_hand(mask: list[bool], left: int, factor: int, threshold: float) -> tuple[float, int, int]:
    """Masked fraction, targets and blind targets of one utterance."""
    groups = [mask[start : start + factor] for start in range(0, len(mask), factor)]
    targets = sum(sum(group) / factor > threshold for group in groups)
    blind = 0
    for index, group in enumerate(groups):
        seen = groups[0 if left < 0 else max(0, index - left) : index]
        blind += all(group) and all(all(other) for other in seen)
    return sum(mask) / len(mask), targets, blind


@pytest.mark.parametrize("position", ["pre_conv", "post_conv"])
def test_the_table_counts_what_one_counts_by_hand(position, tiny_model):
    settings = {"mask_position": position, "masking.block_size": 16}
    recipe = dense(Recipe.of_model(tiny_model(settings)), block_size=16 if position == "pre_conv" else 2)
    feature_frames, masks_each, seed = [150, 333], 4, 5
    contexts = [parse(3, 0), parse(20, 0), parse(-1, 0)]
    rows = context_table(recipe, feature_frames, contexts, masks_per_utterance=masks_each, seed=seed)

    factor = 8 if position == "pre_conv" else 1
    lengths = recipe.mask_lengths(feature_frames).repeat_interleave(masks_each)
    options = dict(feat_in=1, mask_prob=0.06, block_size=recipe.masking.recipe.block_size, allow_overlap=True)
    for row, context in zip(rows, contexts, strict=True):
        for way, processor in {
            "none": RandomBlockMasking(**options),
            "literal": RandomBlockMasking(**options, causal=True, causal_window="tail", subsampling_factor=1),
            "tail": RandomBlockMasking(**options, causal=True, causal_window="tail", subsampling_factor=factor),
            "random": RandomBlockMasking(**options, causal=True, causal_window="random", subsampling_factor=factor),
            "sliding": RandomBlockMasking(**options, causal=True, causal_window="sliding", subsampling_factor=factor),
        }.items():
            processor.left_context_size = context.left
            masks = processor.sample(lengths, int(lengths.max()), generator=torch.Generator().manual_seed(seed))
            by_hand = np.array(
                [
                    counted_by_hand(mask[:length].tolist(), context.left, factor, 0.8)
                    for mask, length in zip(masks, lengths.tolist(), strict=True)
                ]
            )
            figures = row["masks"][way]
            found = [figures[name] for name in ("masked_fraction", "targets", "blind_targets")]
            assert found == pytest.approx(by_hand.mean(axis=0).tolist(), abs=1e-6), (way, context)
            assert figures["without_target"] == pytest.approx((by_hand[:, 1] == 0).mean())


def test_sync_leaves_no_blind_target_and_the_literal_one_hardly_any_target(recipe):
    row = context_table(dense(recipe), [1600], [parse(8, 0)], masks_per_utterance=40)[0]
    masks = row["masks"]
    assert masks["none"]["blind_targets"] > 1
    assert masks["sliding"]["blind_targets"] == 0
    assert masks["sliding"]["targets"] > 0.8 * masks["none"]["targets"]
    assert masks["tail"]["targets"] < 0.1 * masks["none"]["targets"]
    assert masks["literal"]["targets"] < masks["tail"]["targets"]
    assert masks["literal"]["without_target"] > 0.5


def test_a_table_is_fit_for_json_and_the_same_every_time(recipe):
    first, again = (context_table(recipe, [500, 600], seed=3, masks_per_utterance=2) for _ in range(2))
    assert first == again == json.loads(json.dumps(first))
    assert [row["left"] for row in first] == [8, 16, 80, 160, 240, 320, -1]
    low = next(row for row in first if row["presets"] == ["low"])
    assert (low["left_seconds"], low["right_seconds"], low["trained"]) == (12.8, 0.0, False)
    assert low["reach_left_seconds"] == pytest.approx(0.01 * (2 * (160 + 8) * 8 + 14))


@pytest.mark.parametrize(
    "lengths, masks, message",
    [([], 1, "lengths must hold at least one"), ([100], 0, "masks_per_utterance must be .* 0")],
)
def test_a_table_of_nothing_is_refused(recipe, lengths, masks, message):
    with pytest.raises(ValueError, match=message):
        context_table(recipe, lengths, masks_per_utterance=masks)


def test_unlimited_sides_have_neither_reach_nor_latency_in_the_table():
    row = context_table(Recipe.of_model(SpeechEncoder()), [400], [parse(-1, -1)])[0]
    assert (row["left"], row["right"]) == (-1, -1)
    for figure in ("left_seconds", "right_seconds", "latency_seconds", "reach_left_seconds", "reach_right_seconds"):
        assert row[figure] is None
