"""What all benchmarks have in common."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"


def python_files() -> list[Path]:
    return sorted(BENCHMARKS.rglob("*.py"))


def private_names(file: Path) -> set[str]:
    """Private names that a file takes from modules and objects other than its own."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.name.startswith("_")}
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.add(node.attr)
    return found


def test_nothing_private_of_others_is_used():
    for file in python_files():
        assert not private_names(file), file


def test_one_file_puts_the_scripts_on_the_path():
    changing = [file.name for file in python_files() if "sys.path" in file.read_text(encoding="utf-8")]
    assert changing == ["scripts_path.py"]
