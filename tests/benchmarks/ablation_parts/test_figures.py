"""The figures of the ablation, taken from runs."""

from ablation_parts import figures
from ablation_runs import CONTEXTS, run


def test_a_loss_at_so_many_targets_lies_between_two_evaluations():
    loss = figures.loss_at
    assert [loss(targets).of(run(1.0, 100), CONTEXTS[0]) for targets in (50, 75, 100)] == [2.0, 1.5, 1.0]
    assert [loss(targets).of(run(1.0, 100), CONTEXTS[0]) for targets in (49, 101)] == [None, None]
    assert loss(0).of(run(1.0, 0), CONTEXTS[0]) == 1.0  # no evaluation brought a target
