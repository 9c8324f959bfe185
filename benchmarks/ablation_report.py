"""The tables of `ablation.py`, made of what its trainings have left.

A run is what one training wrote: `history` (figures of each evaluation), `blind`, `probe`, `steps`. Runs are kept by
arm and seed. An arm is compared with another one seed by seed, so that what a seed does to both cancels out.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import ttest_rel

Run = dict[str, Any]
Runs = dict[int, Run]
"""By seed."""


@dataclass(frozen=True)
class Figure:
    """A figure of a run at a context, and how it is written: `factor` times it, with so many digits."""

    of: Callable[[Run, str], float | None]
    digits: int
    factor: float = 1.0


LOSS = Figure(lambda run, context: run["history"][-1][context]["loss"], 3)
ACCURACY = Figure(lambda run, context: run["history"][-1][context]["accuracy"], 1, 100)
PROBE = Figure(lambda run, context: run["probe"][context]["all_layers"], 1, 100)
PROBE_OF_LAST = Figure(lambda run, context: run["probe"][context]["last_layer"], 1, 100)


def loss_at(targets: float) -> Figure:
    """The loss where a run had seen so many targets; None where it had not been evaluated yet."""
    return Figure(lambda run, context: at_targets(run["history"], targets, lambda one: one[context]["loss"]), 3)


def at_targets(history: list[dict], targets: float, figure: Callable[[dict], float]) -> float | None:
    """A figure of an evaluation where a training had seen so many targets, on the straight line between two of them.

    None before the first evaluation and after the last one.
    """
    for before, after in zip(history, history[1:], strict=False):
        if before["targets"] <= targets <= after["targets"]:
            between = after["targets"] - before["targets"]
            share = (targets - before["targets"]) / between if between else 1.0
            return figure(before) * (1 - share) + figure(after) * share
    return None


def spread(values: list[float], digits: int, factor: float = 1.0) -> str:
    """Mean and standard deviation."""
    text = f"{factor * statistics.mean(values):.{digits}f}"
    return f"{text} ± {factor * statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def difference(ours: dict[int, float], theirs: dict[int, float], digits: int, factor: float = 1.0) -> str:
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
    figure: Figure, results: Mapping[str, Runs], contexts: list[str], compared_with: Mapping[str, str]
) -> list[str]:
    """A row for each arm of `compared_with`, in brackets its difference to the arm named there (if not itself)."""
    lines = [f"| arm | seeds | {' | '.join(contexts)} |", f"|---|---|{'---|' * len(contexts)}"]
    for arm, other in compared_with.items():
        cells = []
        for context in contexts:
            ours, theirs = (
                {
                    seed: value
                    for seed, run in results.get(name, {}).items()
                    if (value := figure.of(run, context)) is not None
                }
                for name in (arm, other)
            )
            if not ours:
                cells.append("-")
                continue
            cell = spread(list(ours.values()), figure.digits, figure.factor)
            cells.append(
                cell if arm == other else f"{cell} ({difference(ours, theirs, figure.digits, figure.factor)})"
            )
        lines.append(f"| {arm} | {len(results[arm])} | {' | '.join(cells)} |")
    return lines


def arms_table(results: Mapping[str, Runs], contexts: list[str], meanings: Mapping[str, str]) -> list[str]:
    """What each arm does, and what that made of targets and tokens."""
    blind_at = " | ".join(f"blind at {context}" for context in contexts)
    lines = [
        f"| arm | what it does | targets per utterance | {blind_at} | perplexity of the tokens |",
        f"|---|---|{'---|' * (len(contexts) + 2)}",
    ]
    for arm, runs in results.items():
        targets = [run["history"][-1]["targets"] / run["steps"] for run in runs.values()]
        blind = [statistics.mean(run["blind"][context] for run in runs.values()) for context in contexts]
        tokens = next(iter(runs.values()))["history"][-1]["tokens"]
        cells = [spread(targets, 1), *(f"{one:.2f}" for one in blind), f"{math.exp(tokens['entropy']):.1f}"]
        lines.append(f"| {arm} | {meanings[arm]} | {' | '.join(cells)} |")
    return lines


def probe_table(
    figure: Figure, results: Mapping[str, Runs], contexts: list[str], compared_with: Mapping[str, str], base: str
) -> list[str]:
    """The probe's `figure_table`, and rows of what it finds without pretraining."""
    results = {**results}
    compared_with = {**compared_with}
    if base in results:
        untrained = {seed: {"probe": run["untrained_probe"]} for seed, run in results[base].items()}
        results["random weights"], compared_with["random weights"] = untrained, base
    lines = figure_table(figure, results, contexts, compared_with)
    for name in ("log-mels", "most frequent phone"):
        if base in results:
            share = next(iter(results[base].values()))["probe"][name]["all_layers"]
            cell = f"{figure.factor * share:.{figure.digits}f}"
            lines.append(f"| {name} | - | {' | '.join([cell] * len(contexts))} |")
    return lines


def report(
    results: Mapping[str, Runs],
    contexts: list[str],
    meanings: Mapping[str, str],
    compared_with: Mapping[str, str],
    *,
    base: str,
    other_tokens: set[str],
    equal_targets: Mapping[str, str],
    setting: str,
) -> str:
    """All tables, in Markdown.

    Args:
        results: the finished runs, by arm and seed; arms without one may be missing.
        contexts: those that were evaluated, as runs name them.
        meanings: what each arm does.
        compared_with: with which other arm each is compared; an arm that stands for itself names itself.
        base: the arm that all is compared with in the end; it has the rows of the baselines.
        other_tokens: arms whose tokens are not those of the others, so that their losses cannot be compared.
        equal_targets: pairs of arms with as many targets at each step.
        setting: a sentence on what was trained, and how.
    """
    compared_with = {arm: other for arm, other in compared_with.items() if arm in results}
    same_tokens = {arm: other for arm, other in compared_with.items() if arm not in other_tokens}
    paired = {arm: other for arm, other in equal_targets.items() if arm in results and other in results}
    paired |= {other: other for other in paired.values()}
    lines = [setting]
    if base in results:
        tokens = next(iter(results[base].values()))["history"][-1]["tokens"]
        lines[0] += (
            f" The evaluated speech's tokens by their frequency alone: entropy {tokens['entropy']:.3f} nats, most "
            f"frequent token {100 * tokens['most_frequent']:.1f} %."
        )

    def section(title: str, table: list[str]) -> None:
        lines.extend(["", f"**{title}**", "", *table])

    def figures(figure: Figure, arms: Mapping[str, str]) -> list[str]:
        return figure_table(figure, results, contexts, arms)

    section("The arms.", arms_table(results, contexts, meanings))
    lines += [
        "",
        "Targets and blind targets are those of training, for each utterance. `sliding` opens blind targets and "
        "nothing else: where `unsynced` has hardly any, both hide nearly the same frames, and can differ there only "
        "by what was learned at other contexts. A later shift has heard more of what it predicts, an earlier one "
        "less, so that their losses are not those of one task. Losses on other tokens are left out.",
    ]
    section("Validation loss (nats) after equal steps.", figures(LOSS, same_tokens))
    section("Masked-token accuracy (%) after equal steps.", figures(ACCURACY, same_tokens))
    for standard in dict.fromkeys(same_tokens.values()):
        group = {arm: other for arm, other in same_tokens.items() if other == standard}
        ends = {arm: min(run["history"][-1]["targets"] for run in results[arm].values()) for arm in group}
        fewest = min(ends, key=ends.get)
        section(
            f"Validation loss (nats) where an arm had had as many targets, over all contexts, as `{fewest}` has in "
            f"the end. Arms with more targets had a high learning rate then{_when(results, standard, ends[fewest])}.",
            figures(loss_at(ends[fewest]), group),
        )
    if paired:
        section(
            "Equal steps, and equal numbers of targets over all contexts: validation loss (nats).",
            figures(LOSS, paired),
        )
        section(
            "Equal steps, and equal numbers of targets over all contexts: masked-token accuracy (%).",
            figures(ACCURACY, paired),
        )
        section(
            "Equal steps, and equal numbers of targets over all contexts: phone probe (%).", figures(PROBE, paired)
        )
    for title, figure in (("all layers side by side", PROBE), ("the last layer alone", PROBE_OF_LAST)):
        section(
            f"Phone probe on {title}, frame accuracy (%).",
            probe_table(figure, results, contexts, compared_with, base),
        )
    lines += [
        "",
        "Mean ± standard deviation over seeds. In brackets the mean difference, seed by seed, to "
        f"{' or '.join(sorted({f'`{other}`' for other in compared_with.values()}))}, whichever is of the same recipe; "
        "in bold where a paired t-test over the seeds has p < 0.05, uncorrected. The contexts of an arm are "
        "evaluations of the same models, so that a row is nearly one measurement. A seed changes initial weights, the "
        "order of the data and the contexts drawn; tokenizer, corpus, evaluated masks, and the random numbers that "
        "training's masks are made of are the same for all.",
    ]
    return "\n".join(lines)


def _when(results: Mapping[str, Runs], arm: str, targets: float) -> str:
    """At which step an arm had had so many targets, in words."""
    if arm not in results:
        return ""
    steps = [at_targets(run["history"], targets, lambda one: one["step"]) for run in results[arm].values()]
    return "" if None in steps else f": `{arm}` after {statistics.mean(steps):.0f} steps"
