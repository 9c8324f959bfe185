"""The figures of tables: how each is taken from a run, and compared with another arm's.

A run is what one training wrote. Runs are kept by arm and seed. An arm is compared with another one seed by seed, so
that what a seed does to both cancels out.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import ttest_rel

from nemo.collections.asr.parts.utils.markdown import markdown_table

Run = dict[str, Any]
Runs = dict[int, Run]
"""By seed."""


@dataclass(frozen=True)
class Figure:
    """A figure of a run at a context, and how it is written: `factor` times it, with so many digits."""

    of: Callable[[Run, str], float | None]
    digits: int
    factor: float = 1.0


def spread(values: Sequence[float], digits: int, factor: float = 1.0) -> str:
    """Mean and standard deviation."""
    text = f"{factor * statistics.mean(values):.{digits}f}"
    return f"{text} ± {factor * statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], digits: int, factor: float = 1.0) -> str:
    """The mean difference over the seeds that both have; in bold where a paired t-test has p < 0.05."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return "-"
    text = f"{factor * statistics.mean(ours[seed] - theirs[seed] for seed in seeds):+.{digits}f}"
    if len(seeds) < 2:
        return text
    test = ttest_rel([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    return f"**{text}**" if test.pvalue < 0.05 else text


def figure_table(
    figure: Figure, results: Mapping[str, Runs], contexts: Sequence[str], compared_with: Mapping[str, str]
) -> str:
    """A row for each arm of `compared_with`, in brackets its difference to the arm named there (if not itself)."""
    return markdown_table(figure_header(contexts), figure_rows(figure, results, contexts, compared_with))


def figure_header(contexts: Sequence[str]) -> list[str]:
    """The head of a `figure_table`."""
    return ["arm", "seeds", *contexts]


def figure_rows(
    figure: Figure, results: Mapping[str, Runs], contexts: Sequence[str], compared_with: Mapping[str, str]
) -> list[list[str]]:
    """The rows of a `figure_table`."""
    return [
        [arm, str(len(results[arm])), *(_cell(figure, results, context, arm, other) for context in contexts)]
        for arm, other in compared_with.items()
    ]


def _cell(figure: Figure, results: Mapping[str, Runs], context: str, arm: str, other: str) -> str:
    ours, theirs = (_by_seed(figure, results.get(name, {}), context) for name in (arm, other))
    if not ours:
        return "-"
    cell = spread(list(ours.values()), figure.digits, figure.factor)
    return cell if arm == other else f"{cell} ({difference(ours, theirs, figure.digits, figure.factor)})"


def _by_seed(figure: Figure, runs: Runs, context: str) -> dict[int, float]:
    """The figure of each run that has it."""
    values = {seed: figure.of(run, context) for seed, run in runs.items()}
    return {seed: value for seed, value in values.items() if value is not None}
