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


def write_results(results: Results, file: Path, **common: Any) -> None:
    """Writes all figures, a training a line; `common` goes into each line."""
    lines = [
        json.dumps({"arm": arm, "seed": seed, **common, **run})
        for arm, runs in results.items()
        for seed, run in runs.items()
    ]
    write_text(file, "\n".join(lines) + "\n")


def read_results(file: Path) -> Results:
    """What `write_results` wrote."""
    results: Results = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        results.setdefault(run["arm"], {})[run["seed"]] = run
    return results


def common_value(results: Results, name: str) -> Any:
    """The value of `name` in every line of what `read_results` read.

    Raises:
        ValueError: the lines differ in it, or there are none.
    """
    values = {run[name] for runs in results.values() for run in runs.values()}
    if len(values) != 1:
        raise ValueError(f"{name} must be the same in all lines; got {sorted(values)}")
    return values.pop()
