"""Sums of future-token prediction add up, and give a figure for each context and step."""

import pytest
import torch

from nemo.collections.asr.models.masked_token_pred.future_totals import FutureTotals
from nemo.collections.asr.parts.attention_context import AttentionContext

CONTEXTS = (AttentionContext(8, 0), AttentionContext(16, 1), AttentionContext(-1, -1))


def totals(scale: float = 1.0) -> FutureTotals:
    rows = [[[6.0, 1.0, 3.0], [2.0, 1.0, 2.0]], [[0.0, 0.0, 0.0], [4.0, 2.0, 4.0]], [[0.0] * 3] * 2]
    return FutureTotals(CONTEXTS, scale * torch.tensor(rows, dtype=torch.float64))


def test_figures_are_weighted_by_targets():
    summed = FutureTotals.sum([totals(), totals(3.0)])
    assert torch.equal(summed.sums, totals(4.0).sums)
    assert summed.losses.tolist() == pytest.approx([8 / 5, 1, 0])
    assert summed.accuracies.flatten().tolist() == pytest.approx([1 / 3, 1 / 2, 0, 1 / 2, 0, 0])
    assert summed.has_targets.tolist() == [True, True, False]
    assert summed.reduced_over_ranks() is summed


def test_what_was_left_out_is_not_logged():
    assert {name: float(value) for name, value in totals().metrics("val").items()} == pytest.approx(
        {
            "val_future_loss_8_0": 8 / 5,
            "val_future_acc_step1_8_0": 1 / 3,
            "val_future_acc_step2_8_0": 1 / 2,
            "val_future_loss_16_1": 1.0,
            "val_future_acc_step2_16_1": 1 / 2,
        }
    )
