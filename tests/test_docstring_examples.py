"""The examples in our docstrings run, and give what they say.

They find the names of their module, `torch`, `np`, and for examples that need them a small `model` in evaluation mode,
`audio` [1, N] with its `lengths` [1], and the same audio as it arrives, in `pieces` and from a `microphone`.
"""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = REPOSITORY / "examples/asr/speech_pretraining"


def docstrings(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Name, line and text of each docstring, and of each text that stands behind an assignment."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if is_text and isinstance(child.value.value, str) and ">>>" in child.value.value:
                yield getattr(node, "name", "module"), child.lineno, child.value.value


def examples() -> Iterator:
    for top, base in (("nemo", REPOSITORY), ("nemo_overlay", REPOSITORY), (str(SCRIPTS), SCRIPTS)):
        for file in sorted((REPOSITORY / top).rglob("*.py")):
            module = ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
            for name, line, text in docstrings(ast.parse(file.read_text(encoding="utf-8"))):
                yield pytest.param(module, file, line, text, id=f"{module.rpartition('.')[2]}.{name}")


@pytest.fixture(scope="module")
def model(tiny_model) -> torch.nn.Module:
    return tiny_model({"encoder.n_layers": 4}).eval()


@pytest.mark.parametrize(("module", "file", "line", "text"), list(examples()))
def test_the_example_runs_and_gives_what_it_says(module, file, line, text, model, audio):
    imported = importlib.import_module(module)
    samples, pieces = audio[0][:1], audio[0][:1].split(4000, dim=1)
    given = {"model": model, "audio": samples, "lengths": audio[1][:1], "pieces": pieces, "microphone": pieces}
    names = {"torch": torch, "np": np, **given, **vars(imported)}
    test = doctest.DocTestParser().get_doctest(text, names, module, str(file), line - 1)
    shown: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(
        test, out=shown.append
    )
    assert result.attempted > 0 or "+SKIP" in text
    assert result.failed == 0, "".join(shown)


def test_examples_are_found_wherever_they_stand():
    text = '''
class Example:
    """Has one.

        >>> 1 + 1
        2
    """

    field: int = 0
    """A text behind an assignment. >>> is found there too."""

    def method(self):
        """Has none."""
'''
    assert [(name, line) for name, line, _ in docstrings(ast.parse(text))] == [("Example", 3), ("Example", 10)]
