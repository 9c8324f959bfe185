"""What validation reports of an objective: its loss, its terms, and what must be beaten."""

import pytest
import torch

from nemo.collections.asr.models.masked_token_pred.future_totals import FutureTotals
from nemo.collections.asr.models.masked_token_pred.objective import Objective
from nemo.collections.asr.models.masked_token_pred.objective_totals import ObjectiveTotals
from nemo.collections.asr.models.masked_token_pred.token_baselines import Baselines
from nemo.collections.asr.parts.attention_context import AttentionContext, ContextTotals

CONTEXTS = (AttentionContext(8, 0), AttentionContext(-1, -1))
MASKED = ContextTotals(CONTEXTS, torch.tensor([[20.0, 3, 10], [10.0, 5, 10]], dtype=torch.float64))
FUTURE = FutureTotals(CONTEXTS, torch.tensor([[[8.0, 1, 2], [4.0, 1, 2]], [[0.0] * 3] * 2], dtype=torch.float64))


def figures(totals: ObjectiveTotals) -> dict[str, float]:
    return {name: float(value) for name, value in totals.metrics("val").items()}


def test_masked_prediction_alone_reports_what_it_always_did():
    totals = ObjectiveTotals(Objective(), MASKED, None)
    assert totals.metrics("val") == MASKED.metrics("val")
    assert totals.mean_loss == MASKED.mean_loss
    assert totals.table() == MASKED.table()
    assert torch.equal(totals.losses, MASKED.losses)


def test_both_terms_are_weighted_as_in_training_and_reported_apart():
    totals = ObjectiveTotals(Objective(masked=1, future=3), MASKED, FUTURE)
    assert figures(totals) == pytest.approx(
        {
            "val_loss": (0.25 * 2 + 0.75 * 3 + 1) / 2,
            "val_loss_8_0": 0.25 * 2 + 0.75 * 3,
            "val_loss_-1_-1": 1.0,  # future tokens are left out there
            "val_masked_loss_8_0": 2.0,
            "val_masked_loss_-1_-1": 1.0,
            "val_acc_8_0": 0.3,
            "val_acc_-1_-1": 0.5,
            "val_future_loss_8_0": 3.0,
            "val_future_acc_step1_8_0": 0.5,
            "val_future_acc_step2_8_0": 0.5,
        }
    )
    summed = ObjectiveTotals.sum([totals, totals]).reduced_over_ranks()
    assert torch.equal(summed.masked.sums, 2 * MASKED.sums) and torch.equal(summed.future.sums, 2 * FUTURE.sums)
    assert figures(summed) == pytest.approx(figures(totals))


def test_future_tokens_alone_have_no_masked_figure_and_a_mean_over_what_is_left():
    totals = ObjectiveTotals(Objective(masked=0, future=1), None, FUTURE)
    assert totals.has_targets
    assert figures(totals) == pytest.approx(
        {
            "val_loss": 3.0,
            "val_loss_8_0": 3.0,
            "val_future_loss_8_0": 3.0,
            "val_future_acc_step1_8_0": 0.5,
            "val_future_acc_step2_8_0": 0.5,
        }
    )
    nothing = FutureTotals(CONTEXTS, torch.zeros_like(FUTURE.sums))
    assert not ObjectiveTotals(Objective(masked=0, future=1), None, nothing).has_targets


def test_the_table_has_the_terms_and_what_must_be_beaten():
    baselines = Baselines(entropy=3.25, most_frequent=0.125, given_earlier=(2.5, 3.0))
    table = ObjectiveTotals(Objective(masked=1, future=1), MASKED, FUTURE).table(baselines)
    assert "| [8, 0] | 2.0000 | 30.00 % | 10 |" in table
    assert "| [8, 0] | 3.0000 | 50.00 % | 50.00 % | 4 |" in table
    assert "| [-1, -1] | left out |  |  | 0 |" in table
    assert "| tokens by frequency | 3.2500 | 12.50 % | 12.50 % |  |" in table
    assert "| tokens given an earlier one | 2.7500 |  |  |  |" in table
    assert "3.2500 by frequency, 2.5000 given the token before" in table
