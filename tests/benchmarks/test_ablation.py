"""The ablation: its committed tables, and its command line."""

import sys
from pathlib import Path

import ablation
import pytest
from ablation_parts.arms import ARMS, SIZES
from ablation_parts.tables import tables
from trainings import results

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_committed_tables_are_those_of_the_committed_figures_and_the_guide_quotes_them():
    found = results.read_results(REPOSITORY / "benchmarks/results/ablation.jsonl")
    size = results.common_value(found, "size")
    assert size == "default" and set(found) == {arm.name for arm in ARMS}
    assert all(len(runs) >= 3 for runs in found.values())
    committed = (REPOSITORY / "benchmarks/results/ablation.md").read_text(encoding="utf-8")
    assert committed == tables(found, SIZES[size]) + "\n"
    guide = (REPOSITORY / "MASKING_CONTEXT_SYNC.md").read_text(encoding="utf-8")
    quoted = [line for line in guide.splitlines() if " ± " in line and line.startswith("|")]
    assert quoted and not set(quoted) - set(committed.splitlines())


def test_the_tables_of_a_file_are_printed(capsys, monkeypatch):
    file = REPOSITORY / "benchmarks/results/ablation.jsonl"
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--tables", str(file)])
    ablation.main()
    assert capsys.readouterr().out == file.with_suffix(".md").read_text(encoding="utf-8")


def test_a_single_seed_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--seeds", "1"])
    with pytest.raises(SystemExit):
        ablation.parse_arguments()
    assert "--seeds must be a whole number >= 2; got 1" in capsys.readouterr().err
