"""Which objective suits a causal encoder? The same small encoder pretrained with each, and asked what it has learned.

    python benchmarks/objective.py --corpus festvox/corpus --out objective
    python benchmarks/objective.py --corpus demo/corpus --out objective-demo --arms none masked future
    python benchmarks/objective.py --corpus festvox/corpus --out objective-large --size large --device cuda
    python benchmarks/objective.py --tables benchmarks/results/objective.jsonl

`--corpus` is a folder of `aligned_corpus.py` (`make festvox` makes one of recorded speech) or of `demo_corpus.py`.
For every arm and seed the encoder is pretrained; linear probes look for phones in its frozen frames; and the whole
encoder is fine-tuned on the phones of a few minutes. The arms of a seed begin with the same encoder, and have the same
crops, contexts, steps, probes and labels.

A run ended at any time goes on where it was. After each arm it writes `objective.md`, the tables of what is finished,
and `objective.jsonl`, all figures, a training a line, from which `--tables` makes the tables again.
"""

import argparse
import os
from pathlib import Path

import scripts_path  # noqa: F401  nest_tools is imported from there
from objective_parts.arms import ARMS, SEEDS, SIZES, arm_named


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of a corpus whose phones are known")
    parser.add_argument("--out", type=Path, default=Path("objective"), help="folder for runs and results")
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"trainings of each arm (default: {SEEDS})")
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=[arm.name for arm in ARMS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--jobs", type=int, help="trainings at a time, each on one CPU thread (default: one for each CPU; 1 on a GPU)"
    )
    parser.add_argument("--tables", type=Path, metavar="FILE", help="print the tables of an objective.jsonl, and end")
    parser.add_argument("--train", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)  # a job's own process
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be a whole number >= 1; got {options.seeds}")
    if options.tables is None and options.corpus is None:
        parser.error("--corpus must be a folder whose phones are known; got none")
    if options.corpus is not None and not (options.corpus / "train_manifest.json").is_file():
        parser.error(f"--corpus must be a folder with train_manifest.json; got {options.corpus}")
    return options


def main() -> None:
    options = parse_arguments()
    if options.tables:
        print_tables(options.tables)
    elif options.train:
        import torch
        from objective_parts.run import run_arm

        arm, seed = options.train
        device = torch.device(options.device)
        run_arm(arm_named(arm), int(seed), SIZES[options.size], options.corpus, options.out, device)
    else:
        train_all(options)


def print_tables(file: Path) -> None:
    from objective_parts.tables import tables
    from trainings.results import common_value, read_results

    results = read_results(file)
    print(tables(results, SIZES[common_value(results, "size")]))


def train_all(options: argparse.Namespace) -> None:
    from nest_tools.command import write_text
    from objective_parts.tables import tables
    from trainings.jobs import run_all
    from trainings.results import results_of, write_results

    corpus, out = options.corpus.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    def write_tables() -> str:
        results = results_of(out, options.arms, options.seeds)
        if not results:
            return ""
        write_results(results, out / "objective.jsonl", size=options.size)
        text = tables(results, SIZES[options.size])
        write_text(out / "objective.md", text + "\n")
        return text

    # Seed by seed, so that all arms can be compared early.
    wanted = [(arm, seed) for seed in range(options.seeds) for arm in options.arms]
    jobs = options.jobs or (os.cpu_count() or 1 if options.device == "cpu" else 1)
    command = [__file__, "--corpus", corpus, "--out", out, "--size", options.size, "--device", options.device]
    run_all(command, wanted, out, jobs, after_each=write_tables)
    print(write_tables())


if __name__ == "__main__":
    main()
