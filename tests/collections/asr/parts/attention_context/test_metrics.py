"""Loss and accuracy by context, as sums that add up."""

import pytest
import torch

from nemo.collections.asr.parts.attention_context import AttentionContext, ContextTotals

CONTEXTS = (AttentionContext(8, 0), AttentionContext(-1, 0))


def totals(*rows) -> ContextTotals:
    return ContextTotals.gather(CONTEXTS, [tuple(map(torch.tensor, row)) for row in rows])


def test_batches_are_weighted_by_their_targets():
    summed = ContextTotals.sum([totals((2.0, 1, 1), (4.0, 0, 1)), totals((1.0, 2, 3), (0.0, 3, 3))])
    assert summed.losses.tolist() == [3 / 4, 1.0] and summed.accuracies.tolist() == [3 / 4, 3 / 4]
    metrics = summed.metrics("val")
    assert set(metrics) == {"val_loss", "val_loss_8_0", "val_acc_8_0", "val_loss_-1_0", "val_acc_-1_0"}
    assert metrics["val_loss"] == pytest.approx((3 / 4 + 1) / 2)
    assert summed.table().splitlines()[2] == "| [8, 0] | 0.7500 | 75.00 % | 4 |"


def test_nothing_evaluated_is_zero_and_said():
    nothing = totals((0.0, 0, 0), (0.0, 0, 0))
    assert not nothing.has_targets and nothing.mean_loss == 0 and nothing.reduced_over_ranks() is nothing


def test_an_encoder_without_contexts_has_one_row_without_a_name():
    lone = ContextTotals.gather((None,), [(torch.tensor(2.0), torch.tensor(1), torch.tensor(2))])
    assert set(lone.metrics("test")) == {"test_loss"} and "| none |" in lone.table()
