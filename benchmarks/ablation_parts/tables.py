"""The tables of the ablation, made of what its trainings have left."""

import math
import statistics
from collections.abc import Mapping, Sequence

from trainings.figures import Figure, Runs, figure_header, figure_rows, figure_table, spread

from ablation_parts.arms import ARMS, BASE, BASE_ARM, CONTEXTS, DENSER, MASK_SETS, Size
from ablation_parts.figures import ACCURACY, LOSS, PROBE, PROBE_OF_LAST, at_targets, loss_at
from nemo.collections.asr.parts.utils.markdown import markdown_table


def tables(results: Mapping[str, Runs], size: Size) -> str:
    """The report on what is finished, in Markdown."""
    return report(
        results,
        contexts=[str(context) for context in CONTEXTS],
        meanings={arm.name: arm.meaning for arm in ARMS},
        compared_with={arm.name: arm.compared_with for arm in ARMS},
        base=BASE_ARM.name,
        other_tokens={arm.name for arm in ARMS if "quantizer.normalize" in arm.config},
        equal_targets={"tail": "sliding, sparser", "random": "sliding, sparser"},
        setting=(
            f"{size.steps} steps of {size.batch} crops of {size.crop_seconds:g} s from {size.minutes:g} minutes of "
            f"speech; evaluated on {size.validation_minutes:g} minutes of voices not heard in training, which say the "
            f"same sentences, {MASK_SETS} masks of the base arm on each utterance. Masks: blocks of "
            f"{BASE['masking.block_size']} feature frames at {BASE['masking.mask_prob']}; `denser`: "
            f"{DENSER['masking.block_size']} at {DENSER['masking.mask_prob']}."
        ),
    )


def arms_table(results: Mapping[str, Runs], contexts: Sequence[str], meanings: Mapping[str, str]) -> str:
    """What each arm does, and what that made of targets and tokens."""
    header = ["arm", "what it does", "targets per utterance", *(f"blind at {context}" for context in contexts)]
    rows = []
    for arm, runs in results.items():
        targets = [run["history"][-1]["targets"] / run["steps"] for run in runs.values()]
        blind = [statistics.mean(run["blind"][context] for run in runs.values()) for context in contexts]
        tokens = next(iter(runs.values()))["history"][-1]["tokens"]
        perplexity = f"{math.exp(tokens['entropy']):.1f}"
        rows.append([arm, meanings[arm], spread(targets, 1), *(f"{count:.2f}" for count in blind), perplexity])
    return markdown_table([*header, "perplexity of the tokens"], rows)


def probe_table(
    figure: Figure, results: Mapping[str, Runs], contexts: Sequence[str], compared_with: Mapping[str, str], base: str
) -> str:
    """The probe's `figure_table`, and rows of what it finds without pretraining."""
    results = {**results}
    compared_with = {**compared_with}
    if base in results:
        results["random weights"] = {seed: {"probe": run["untrained_probe"]} for seed, run in results[base].items()}
        compared_with["random weights"] = base
    rows = figure_rows(figure, results, contexts, compared_with)
    for name in ("log-mels", "most frequent phone"):
        if base in results:
            share = next(iter(results[base].values()))["probe"][name]["all_layers"]
            rows.append([name, "-", *[f"{figure.factor * share:.{figure.digits}f}"] * len(contexts)])
    return markdown_table(figure_header(contexts), rows)


def report(
    results: Mapping[str, Runs],
    contexts: Sequence[str],
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

    def section(title: str, table: str) -> None:
        lines.extend(["", f"**{title}**", "", table])

    def figures(figure: Figure, arms: Mapping[str, str]) -> str:
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
        "order of the data and the sampled contexts; tokenizer, corpus, evaluated masks, and the random numbers that "
        "training's masks are made of are the same for all.",
    ]
    return "\n".join(lines)


def _when(results: Mapping[str, Runs], arm: str, targets: float) -> str:
    """At which step an arm had had so many targets, in words."""
    if arm not in results:
        return ""
    steps = [
        at_targets(run["history"], targets, lambda evaluation: evaluation["step"]) for run in results[arm].values()
    ]
    return "" if None in steps else f": `{arm}` after {statistics.mean(steps):.0f} steps"
