"""What trainings leave: a file for each, and one with all figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nest_tools.command import write_text

Results = dict[str, dict[int, dict[str, Any]]]
"""What each training wrote, by arm and seed."""


def run_folder(out: Path, arm: str, seed: int) -> Path:
    """The folder of a training."""
    return out / "runs" / f"{arm.replace(', ', '-').replace(' ', '_')}-{seed}"


def is_finished(out: Path, arm: str, seed: int) -> bool:
    """Whether a training has left its result."""
    return (run_folder(out, arm, seed) / "result.json").is_file()


def write_result(out: Path, arm: str, seed: int, result: Mapping[str, Any]) -> None:
    """Writes the result of a training, whole or not at all."""
    folder = run_folder(out, arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "result.json", json.dumps(result))


def results_of(out: Path, arms: Sequence[str], seeds: int) -> Results:
    """What is finished."""
    found = {
        arm: {
            seed: json.loads((run_folder(out, arm, seed) / "result.json").read_text(encoding="utf-8"))
            for seed in range(seeds)
            if is_finished(out, arm, seed)
        }
        for arm in arms
    }
    return {arm: by_seed for arm, by_seed in found.items() if by_seed}


def write_results(results: Results, size: str, out: Path) -> None:
    """Writes all figures, a training a line, into `ablation.jsonl`."""
    lines = [
        json.dumps({"arm": arm, "seed": seed, "size": size, **run})
        for arm, runs in results.items()
        for seed, run in runs.items()
    ]
    write_text(out / "ablation.jsonl", "\n".join(lines) + "\n")


def read_results(file: Path) -> tuple[Results, str]:
    """The results, and the name of the size, that `write_results` wrote into an `ablation.jsonl`."""
    runs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    results: Results = {}
    for run in runs:
        results.setdefault(run["arm"], {})[run["seed"]] = run
    return results, runs[0]["size"]
