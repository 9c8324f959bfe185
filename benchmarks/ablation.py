"""Does masking in sync with attention help, and which window? The same small model trained with each, and compared.

    python benchmarks/ablation.py --out ablation
    python benchmarks/ablation.py --out ablation --size large --device cuda
    python benchmarks/ablation.py --tables benchmarks/results/ablation.jsonl

Arms differ in one thing: how masks follow the attention's context, which encoder frame predicts a token, how the
tokenizer's input is normalised; and, in a second recipe, how much is masked. Data, their order, initial weights,
sampled contexts, tokens and steps are the same for all arms of a seed. Every arm is evaluated on the same masks, those
of the base arm, at each context: arms that never hide so much at a short context are at a disadvantage there. The
voices of evaluation are not those of training, the sentences are. Since arms differ in how many targets a step has,
they are compared three times: after equal steps; where each had as many targets as the arm with the fewest has in the
end; and, at equal steps and equal targets at once, `tail` with `sliding` at a lower rate. Last, a linear probe for
phones (`phone_probe.py`) is fitted on the frozen frames, of all layers and of the last one.

A run ended at any time goes on where it was. After each training it writes `ablation.md`, the tables of what is
finished, and `ablation.jsonl`, all figures, a training a line, from which `--tables` makes the tables again.
"""

import argparse
import os
from pathlib import Path

import scripts_path  # noqa: F401  nest_tools is imported from there
from ablation_parts.arms import ARMS, SEEDS, SIZES, arm_named


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("ablation"),
        help="folder for corpus, runs and results, one in it for each size",
    )
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help=f"trainings of each arm, at least 2 (default: {SEEDS})"
    )
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=[arm.name for arm in ARMS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--jobs", type=int, help="trainings at a time, each on one CPU thread (default: one for each CPU; 2 on a GPU)"
    )
    parser.add_argument("--tables", type=Path, metavar="FILE", help="print the tables of an ablation.jsonl, and end")
    parser.add_argument("--train", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)  # a job's own process
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds must be a whole number >= 2; got {options.seeds}")
    return options


def main() -> None:
    options = parse_arguments()
    size, out = SIZES[options.size], options.out.resolve() / options.size
    if options.tables:
        print_tables(options.tables)
    elif options.train:
        import torch
        from ablation_parts.training import train

        arm, seed = options.train
        train(arm_named(arm), int(seed), size, out, torch.device(options.device))
    else:
        train_all(options, out)


def print_tables(file: Path) -> None:
    from ablation_parts.tables import tables
    from trainings.results import common_value, read_results

    results = read_results(file)
    print(tables(results, SIZES[common_value(results, "size")]))


def train_all(options: argparse.Namespace, out: Path) -> None:
    from ablation_parts.tables import tables
    from nest_tools.command import write_text
    from nest_tools.corpus import make_corpus
    from trainings.jobs import run_all
    from trainings.results import results_of, write_results

    size = SIZES[options.size]
    make_corpus(out / "corpus", minutes=size.minutes, validation_minutes=size.validation_minutes)

    def write_tables() -> str:
        results = results_of(out, options.arms, options.seeds)
        write_results(results, out / "ablation.jsonl", size=options.size)
        text = tables(results, size)
        write_text(out / "ablation.md", text + "\n")
        return text

    # Seed by seed, so that all arms can be compared early.
    wanted = [(arm, seed) for seed in range(options.seeds) for arm in options.arms]
    jobs = options.jobs or (os.cpu_count() or 1 if options.device == "cpu" else 2)
    command = [__file__, "--out", out.parent, "--size", options.size, "--device", options.device]
    run_all(command, wanted, out, jobs, after_each=write_tables)
    print(write_tables())


if __name__ == "__main__":
    main()
