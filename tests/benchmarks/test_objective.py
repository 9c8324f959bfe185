"""The evaluation of objectives: its committed tables, and its command line."""

import re
import sys
from pathlib import Path

import objective
import pytest
from objective_parts.arms import SIZES
from objective_parts.tables import tables
from trainings.results import common_value, read_results

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks/results"


@pytest.mark.parametrize("name", ["objective"])
def test_the_committed_tables_are_those_of_the_committed_figures(name):
    found = read_results(RESULTS / f"{name}.jsonl")
    assert common_value(found, "size") == "default" and {"none", "masked", "future"} <= set(found)
    assert all(len(found[arm]) >= 3 for arm in ("none", "masked", "future"))
    committed = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert committed == tables(found, SIZES["default"]) + "\n"


def test_the_documents_quote_the_committed_figures():
    committed = (RESULTS / "objective.md").read_text(encoding="utf-8")
    quoted = re.findall(r"\d+\.\d ± \d+\.\d", (REPOSITORY / "docs/objective.md").read_text(encoding="utf-8"))
    assert len(quoted) >= 15 and not set(quoted) - set(re.findall(r"\d+\.\d ± \d+\.\d", committed))
    text = (REPOSITORY / "docs/objective.md").read_text(encoding="utf-8")
    stated = re.findall(r"(?<![\d.])\d+\.\d(?!\.?\d)", text.split("## Which one to take")[1].split("\n## ")[0])
    assert len(stated) > 30 and not set(stated) - set(re.findall(r"\d+\.\d", committed))
    config = (REPOSITORY / "examples/asr/conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml").read_text()
    stated = re.findall(r"\b\d\d\.\d\b", config.split("name: ")[0])
    means = [figure for row in ("masked", "none", "future") for figure in means_of(committed, row)]
    assert stated == means
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    found = re.search(
        r"finds (\S+) % of the\nphones after .* (\S+) % after masked .* (\S+) % from random weights", readme
    )
    assert list(found.groups()) == [means_of(committed, arm)[0] for arm in ("future", "masked", "none")]


def means_of(table: str, arm: str) -> list[str]:
    """The mean accuracies of an arm after fine-tuning on 5, 20 and 60 minutes."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {arm} |"))
    return [cell.split()[0] for cell in line.strip("| ").split(" | ")[-3:]]


def test_the_tables_of_a_file_are_printed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["objective.py", "--tables", str(RESULTS / "objective.jsonl")])
    objective.main()
    assert capsys.readouterr().out == (RESULTS / "objective.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "--corpus must be a folder whose phones are known; got none"),
        (["--corpus", "nowhere"], "--corpus must be a folder with train_manifest.json; got nowhere"),
        (["--corpus", "nowhere", "--seeds", "0"], "--seeds must be a whole number >= 1; got 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["objective.py", *arguments])
    with pytest.raises(SystemExit):
        objective.parse_arguments()
    assert error in capsys.readouterr().err
