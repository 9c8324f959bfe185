"""The tables of the evaluation, made of what its trainings have left."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats
from trainings.figures import Figure, Runs, figure_table, spread

from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.utils.markdown import markdown_table
from objective_parts.arms import ARMS, CHOSEN_AT, CONTEXTS, Size, arm_named

AT = str(CHOSEN_AT)
ALL = [str(context) for context in CONTEXTS]


def probe_of(name: str) -> Figure:
    """Accuracy of a probe, in %."""
    return Figure(lambda run, context: run["probe"][name][context], 1, 100)


def fine_tuned_on(minutes: int) -> Figure:
    """Accuracy of the fine-tuned encoder, in %; None where an arm was not fine-tuned on so much."""
    return Figure(lambda run, context: run.get(f"fine_tuned_{minutes}", {}).get(context), 1, 100)


COLUMNS = {
    "probe, all layers": probe_of("all_layers"),
    "probe, weighted layers": probe_of("weighted_layers"),
    "probe, last layer": probe_of("last_layer"),
    "fine-tuned, 5 min": fine_tuned_on(5),
    "fine-tuned, 20 min": fine_tuned_on(20),
    "fine-tuned, 60 min": fine_tuned_on(60),
}

PAIRS = (
    ("masked", "none"),
    ("future", "none"),
    ("future", "masked"),
    ("masked, 4 books", "masked"),
    ("future", "masked, 4 books"),
    ("both, one forward", "future"),
    ("both, by batch", "future"),
    ("both, two forwards", "future"),
    ("both, two forwards, half", "future"),
    ("future, 1 book", "future"),
    ("future, 16 books", "future"),
    ("future, N 1", "future"),
    ("future, N 4", "future"),
    ("future, fitted", "future"),
    ("future, 1 fitted book", "future, 1 book"),
    ("future, equal compute", "masked"),
    ("masked, unsynced", "masked"),
    ("masked, tail", "masked"),
    ("masked, audible mask", "masked"),
    ("masked, 16 books", "masked"),
    ("none, fixed", "none"),
    ("masked, fixed", "masked"),
    ("future, fixed", "future"),
    ("masked, fixed", "none, fixed"),
    ("future, fixed", "none, fixed"),
)
"""Which differences are tested."""


def tables(results: Mapping[str, Runs], size: Size) -> str:
    """The report on what is finished, in Markdown."""
    results = {arm.name: results[arm.name] for arm in ARMS if arm.name in results}
    lines = [
        f"Phones per frame, in %. An encoder of {size.encoder['n_layers']} layers of {size.encoder['d_model']} "
        f"channels, {size.steps} steps of {size.batch} crops of up to {size.crop_seconds:g} s, {size.num_classes} "
        f"codes in each codebook; one of the contexts {', '.join(ALL)} is sampled for each batch, in fine-tuning too. "
        f"Probes are fitted on {size.probe_minutes:g} minutes; their penalties are chosen on validation at {AT}. "
        f"Fine-tuning: the whole encoder, {size.fine_tuning_steps} steps of {size.fine_tuning_batch} crops of up to "
        f"{size.fine_tuning_seconds:g} s. Tested on sentences that were never heard. Mean ± standard deviation over "
        "seeds; the arms of a seed begin with the same encoder and have the same crops, contexts and labels.",
    ]

    def section(title: str, table: str, note: str = "") -> None:
        lines.extend(["", f"**{title}**", "", table, *(["", note] if note else [])])

    section(f"All arms, at {AT}.", arms_table(results), _log_mels_note(results))
    section("Differences, seed by seed.", pairs_table(results), PAIRS_NOTE)
    section(
        f"Fine-tuned on 5 minutes at other learning rates, on validation at {AT}.", peaks_table(results), PEAKS_NOTE
    )
    for name in ("probe, all layers", "probe, last layer", "fine-tuned, 5 min"):
        compared = {arm: _compared_with(arm, results) for arm in results}
        section(
            f"By context: {name}. In brackets the difference to the same seeds' random weights.",
            figure_table(COLUMNS[name], results, ALL, compared),
        )
    section("What the objective learned, on validation sentences.", losses_table(results), LOSSES_NOTE)
    section("Cost of a step.", cost_table(results), COST_NOTE)
    return "\n".join(lines)


PAIRS_NOTE = (
    "Mean difference in points, its 95 % confidence interval (t distribution over the seeds), and in bold where that "
    "leaves 0 out. With few seeds the interval is wide, and one in twenty leaves out 0 by chance."
)
LOSSES_NOTE = (
    "Cross-entropies in nats; mean over seeds. `by frequency` and `by earlier tokens` are what needs no hearing: the "
    "entropy of the tokens, and the cross-entropy given the token n before, averaged over the steps n that the arm "
    "predicts. A model that forecasts must beat the latter. For arms that mask, the loss of masked tokens stands "
    "beside the frequencies alone."
)
PEAKS_NOTE = "Seed 0 alone. All other figures are of the middle one."
COST_NOTE = (
    "CPU time of a training step beside `masked`, medians over seeds; trainings ran on one thread each, beside other "
    "work."
)


def _compared_with(arm: str, results: Mapping[str, Runs]) -> str:
    other = arm_named(arm).compared_with
    return other if other in results else arm


def _values(figure: Figure, runs: Runs, context: str = AT) -> dict[int, float]:
    values = {seed: figure.of(run, context) for seed, run in runs.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def arms_table(results: Mapping[str, Runs]) -> str:
    """A row for each arm."""
    rows = []
    for arm, runs in results.items():
        values = [list(_values(figure, runs).values()) for figure in COLUMNS.values()]
        rows.append([arm, arm_named(arm).meaning, str(len(runs)), *(spread(v, 1, 100) if v else "-" for v in values)])
    return markdown_table(["arm", "what it is", "seeds", *COLUMNS], rows)


def _log_mels_note(results: Mapping[str, Runs]) -> str:
    found = [run["log_mels"] for run in results.get("none", {}).values() if "log_mels" in run]
    if not found:
        return ""
    stacked = {frames: share for frames, share in found[0].items() if frames.isdigit()}
    return (
        "The same probe on log-mels: "
        + ", ".join(f"{100 * share:.1f} % from {frames} frames" for frames, share in stacked.items())
        + f". Most frequent phone: {100 * found[0]['most_frequent']:.1f} %."
    )


def pairs_table(results: Mapping[str, Runs]) -> str:
    """A row for each pair of `PAIRS` that has seeds in common."""
    rows = []
    for ours, theirs in PAIRS:
        seeds = sorted(results.get(ours, {}).keys() & results.get(theirs, {}).keys())
        if seeds:
            cells = [
                _difference(_values(figure, results[ours]), _values(figure, results[theirs]))
                for figure in COLUMNS.values()
            ]
            rows.append([f"{ours} - {theirs}", str(len(seeds)), *cells])
    return markdown_table(["difference", "seeds", *COLUMNS], rows)


def _difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    differences = [100 * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    if not differences:
        return "-"
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    half = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    text = f"{mean:+.1f} ± {half:.1f}"
    return f"**{text}**" if abs(mean) > half else text


def peaks_table(results: Mapping[str, Runs]) -> str:
    """The arms that were fine-tuned at several learning rates."""
    name = "fine_tuned_at_"
    found = {arm: {key: run[key] for key in run if key.startswith(name)} for arm, (run, *_) in _runs(results)}
    peaks = sorted({key for parts in found.values() for key in parts}, key=lambda key: float(key.removeprefix(name)))
    rows = [
        [arm, *(f"{100 * parts[peak][AT]:.1f}" if peak in parts else "-" for peak in peaks)]
        for arm, parts in found.items()
        if parts
    ]
    return markdown_table(["arm", *(peak.removeprefix(name) for peak in peaks)], rows)


def _runs(results: Mapping[str, Runs]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The runs of each arm, by rising seed."""
    return [(arm, [runs[seed] for seed in sorted(runs)]) for arm, runs in results.items()]


def losses_table(results: Mapping[str, Runs]) -> str:
    """Losses at `CHOSEN_AT` and at the shortest context beside what needs no hearing."""
    rows = []
    for arm, runs in results.items():
        found = [run["pretraining"] for run in runs.values()]
        if not found[0]:
            continue
        shortest, longest = (AttentionContext.parse(context).label for context in (CONTEXTS[0], CHOSEN_AT))
        masked = "val_masked_loss" if f"val_masked_loss_{longest}" in found[0] else "val_loss"
        masks = f"val_acc_{longest}" in found[0]
        given = [name for name in found[0] if name.startswith("val_token_entropy_given")]
        of_masked = [_mean(found, f"{masked}_{label}") if masks else "-" for label in (shortest, longest)]
        of_future = [_mean(found, f"val_future_loss_{label}") for label in (shortest, longest)]
        earlier = statistics.mean(run[name] for run in found for name in given)
        row = [arm, _mean(found, "val_token_entropy"), f"{earlier:.3f}" if of_future[0] != "-" else "-"]
        rows.append([*row, *of_masked, *of_future])
    header = ["arm", "by frequency", "by earlier tokens"]
    for term in ("masked", "future"):
        header += [f"{term} tokens at {context}" for context in (CONTEXTS[0], CHOSEN_AT)]
    return markdown_table(header, rows)


def _mean(found: Sequence[dict[str, Any]], name: str) -> str:
    return f"{statistics.mean(run[name] for run in found):.3f}" if name in found[0] else "-"


def cost_table(results: Mapping[str, Runs]) -> str:
    """Seconds of a step beside those of `masked`, where it is there."""
    seconds = {
        arm: statistics.median(run["pretraining"]["seconds"] / run["pretraining"]["steps"] for run in runs.values())
        for arm, runs in results.items()
        if next(iter(runs.values()))["pretraining"]
    }
    base = seconds.get("masked")
    rows = [[arm, f"{value / base:.2f}" if base else "-"] for arm, value in seconds.items()]
    return markdown_table(["arm", "times `masked`"], rows)
