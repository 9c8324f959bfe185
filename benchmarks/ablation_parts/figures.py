"""The figures of the ablation.

A run has `history` (figures of each evaluation), `blind`, `probe` and `steps`.
"""

from collections.abc import Callable, Sequence

from trainings.figures import Figure

LOSS = Figure(lambda run, context: run["history"][-1][context]["loss"], 3)
ACCURACY = Figure(lambda run, context: run["history"][-1][context]["accuracy"], 1, 100)
PROBE = Figure(lambda run, context: run["probe"][context]["all_layers"], 1, 100)
PROBE_OF_LAST = Figure(lambda run, context: run["probe"][context]["last_layer"], 1, 100)


def loss_at(targets: float) -> Figure:
    """The loss where a run had seen so many targets; None where it had not been evaluated yet."""
    return Figure(
        lambda run, context: at_targets(run["history"], targets, lambda evaluation: evaluation[context]["loss"]), 3
    )


def at_targets(history: Sequence[dict], targets: float, figure: Callable[[dict], float]) -> float | None:
    """A figure of an evaluation where a training had seen so many targets, on the straight line between two of them.

    None before the first evaluation and after the last one.
    """
    for before, after in zip(history, history[1:], strict=False):
        if before["targets"] <= targets <= after["targets"]:
            between = after["targets"] - before["targets"]
            share = (targets - before["targets"]) / between if between else 1.0
            return figure(before) * (1 - share) + figure(after) * share
    return None
