"""When the figures of the codebook are computed."""

import pytest
import torch

from nemo.collections.asr.models.masked_token_pred.training_logs import CodebookLogs


class CountingHealth:
    def __init__(self):
        self.computed = 0

    def update(self, *_):
        pass

    def compute(self):
        self.computed += 1
        return {"target_perplexity": float(self.computed)}


@pytest.mark.parametrize("every, computed", [(1, 6), (2, 3), (4, 1), (0, 0)])
def test_figures_are_computed_when_they_are_logged(every, computed):
    """`trainer.log_every_n_steps=0` logs no steps."""
    logs = CodebookLogs(CountingHealth())
    for _ in range(6):
        logs.update_targets(torch.zeros(1, 2), torch.zeros(1, 2, 4))
        metrics = logs.metrics(every)
    assert logs.health.computed == computed
    assert metrics == ({"target_perplexity": float(computed)} if computed else {})
