"""The shape of the repository: which module imports which, how long files are, and where their tests lie."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = REPOSITORY / "examples/asr/speech_pretraining"
CODE = ("nemo", "nemo_overlay", "examples", "benchmarks")

# Prefix of a module's name -> its layer. The longest prefix decides.
LAYERS = {
    "nemo.core": "core",
    "nemo.utils": "core",
    "nemo.collections.common": "core",
    "nemo.collections.asr.parts.utils": "utils",
    "nemo.collections.asr.parts.attention_context": "contexts",
    "nemo.collections.asr.parts.preprocessing": "layers",
    "nemo.collections.asr.parts.submodules": "layers",
    "nemo.collections.asr.parts.streaming": "streaming",
    "nemo.collections.asr.data": "modules",
    "nemo.collections.asr.losses": "modules",
    "nemo.collections.asr.modules": "modules",
    "nemo.collections.asr.models": "models",
    # What users import. Nothing of ours does.
    "nemo.collections.asr.parts.utils.streaming_utils": "door",
}

# Layer -> the other layers of ours that its modules may import.
MAY_IMPORT = {
    "core": set(),
    "utils": {"core"},
    "contexts": {"core", "utils"},
    "layers": {"core", "utils"},
    "streaming": {"core", "utils", "layers", "contexts"},
    "modules": {"core", "utils", "layers", "contexts", "streaming"},
    "models": {"core", "utils", "layers", "contexts", "streaming", "modules"},
    "door": {"core", "utils", "layers", "contexts", "streaming"},
}

# Files of ours without a namesake test, and where they are tested instead, or why they are not.
PARTS_OF_MODELS = "nemo/collections/asr/models/masked_token_pred"
TESTED_ELSEWHERE = {
    "benchmarks/attention.py": "a measurement that is run by hand",
    "benchmarks/context_overhead.py": "a measurement that is run by hand",
    "benchmarks/masking.py": "a measurement that is run by hand",
    "benchmarks/masking_audit.py": "a measurement that is run by hand",
    "benchmarks/overlay_startup.py": "a measurement that is run by hand",
    "benchmarks/quantizer.py": "a measurement that is run by hand",
    "benchmarks/scripts_path.py": "tests/benchmarks/test_benchmarks.py",
    "benchmarks/stopwatch.py": "a measurement that is run by hand",
    "benchmarks/streaming.py": "a measurement that is run by hand",
    "benchmarks/training_step.py": "a measurement that is run by hand",
    "examples/asr/speech_pretraining/demo.py": "tests/test_commands.py",
    "examples/asr/speech_pretraining/masked_token_pred_pretrain.py": "tests/examples/test_pretraining.py",
    "examples/asr/speech_pretraining/nest_tools/corpus/espeak_worker.py": (
        "tests/examples/nest_tools/corpus/test_speech.py"
    ),
    f"{PARTS_OF_MODELS}/model_part.py": "names for the type checker",
    f"{PARTS_OF_MODELS}/noisy_speech_data.py": "tests/collections/asr/data/test_ssl_dataset.py",
}


def python_files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((REPOSITORY / folder).rglob("*.py"))]


def name_of(file: Path) -> str:
    """The module's name of a file below the repository's root."""
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


OURS = {name_of(file): file for file in python_files("nemo")}


def imports_of(tree: ast.Module, module: str, is_package: bool = False) -> Iterator[str]:
    """Names of all modules, and of what is taken from them, that a file imports when it runs or in a function.

    Imports under `if TYPE_CHECKING:` are left out; `a.b` stands for `from a import b` too.
    """
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
                source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def imported_files(file: Path, among: dict[str, Path]) -> set[str]:
    """The modules of `among` that a file imports, but for itself: a file of ours imports NeMo's half of its module."""
    found = set()
    for name in imports_of(ast.parse(file.read_text(encoding="utf-8")), name_of(file), file.stem == "__init__"):
        module = name if name in among else name.rpartition(".")[0]
        if module in among and among[module] != file:
            found.add(module)
    return found


def layer_of(module: str) -> str:
    prefixes = [prefix for prefix in LAYERS if f"{module}.".startswith(f"{prefix}.")]
    return LAYERS[max(prefixes, key=len)] if prefixes else f"{module} is in no layer"


@pytest.mark.parametrize("module", OURS)
def test_imports_go_one_way(module):
    """models -> modules, losses, data -> streaming -> contexts -> utils -> core; the test's table says it in full."""
    allowed = MAY_IMPORT[layer_of(module)] | {layer_of(module)}
    wrong = {name: layer_of(name) for name in imported_files(OURS[module], OURS) if layer_of(name) not in allowed}
    assert not wrong


def test_modules_of_ours_import_each_other_without_cycles():
    """So modules of a package import each other, and not their package, which imports them."""
    graph = {module: imported_files(file, OURS) for module, file in OURS.items()}

    def imported_by(module: str, seen: set[str]) -> set[str]:
        for name in graph[module] - seen:
            seen.add(name)
            imported_by(name, seen)
        return seen

    assert not {module for module in graph if module in imported_by(module, set())}


def test_the_overlay_imports_nothing_of_nemo():
    for file in python_files("nemo_overlay"):
        names = imports_of(ast.parse(file.read_text(encoding="utf-8")), name_of(file))
        assert not {name for name in names if name.partition(".")[0] == "nemo"}, file


def test_the_graph_sees_every_kind_of_import():
    text = """
from typing import TYPE_CHECKING
import a.b
from c.d import e
from . import f
from ..g import h
if TYPE_CHECKING:
    import hidden
else:
    import shown
def function():
    from late import name
"""
    found = set(imports_of(ast.parse(text), "top.package.module"))
    expected = {"typing.TYPE_CHECKING", "a.b", "c.d.e", "top.package.f", "top.g.h", "shown", "late.name"}
    assert found == expected
    assert set(imports_of(ast.parse("from . import f"), "top.package", is_package=True)) == {"top.package.f"}


def is_script(file: Path) -> bool:
    return '__name__ == "__main__"' in file.read_text(encoding="utf-8")


TOP_LEVEL = {file.stem: file for folder in (SCRIPTS, REPOSITORY / "benchmarks") for file in folder.glob("*.py")}


@pytest.mark.parametrize("script", [name for name, file in TOP_LEVEL.items() if is_script(file)])
def test_no_script_imports_another(script):
    imported = imported_files(TOP_LEVEL[script], TOP_LEVEL)
    assert not {name for name in imported if is_script(TOP_LEVEL[name])}


@pytest.mark.parametrize("file", sorted(SCRIPTS.glob("*.py")), ids=lambda file: file.name)
def test_files_beside_the_scripts_are_scripts_that_import_none_of_them(file):
    """What scripts share is in a package."""
    beside = {name: other for name, other in TOP_LEVEL.items() if other.parent == SCRIPTS}
    script, imported = is_script(file), imported_files(file, beside)
    assert script and not imported


@pytest.mark.parametrize("file", python_files(*CODE), ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_no_file_is_longer_than_350_lines(file):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= 350


def namesake_of(file: Path) -> Path:
    """Where the tests of a file are: `nemo/a/b.py` has `tests/a/test_b.py`, and a package `a` has `a/test_a.py`."""
    top, *parts = file.relative_to(REPOSITORY).parent.parts
    if file.is_relative_to(SCRIPTS):
        parts = file.parent.relative_to(SCRIPTS).parts
    folder = REPOSITORY.joinpath("tests", *([] if top == "nemo" else [top]), *parts)
    stem = {"__init__": file.parent.name, "__main__": "main"}.get(file.stem, file.stem)
    return folder / f"test_{stem}.py"


def has_code(file: Path) -> bool:
    """Whether a file does more than import names and list them."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return any(not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign) for node in body)


@pytest.mark.parametrize("file", python_files(*CODE), ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_every_file_has_a_namesake_test_at_the_mirrored_path(file):
    if file.relative_to(REPOSITORY).as_posix() in TESTED_ELSEWHERE or (file.stem == "__init__" and not has_code(file)):
        return
    namesake = namesake_of(file)
    exists = namesake.is_file()
    assert exists, f"{namesake.relative_to(REPOSITORY)} is missing"


def test_files_that_are_tested_elsewhere_exist_and_have_no_namesake():
    for name, where in TESTED_ELSEWHERE.items():
        assert (REPOSITORY / name).is_file() and not namesake_of(REPOSITORY / name).is_file(), name
        assert not where.startswith("tests/") or (REPOSITORY / where).is_file(), where


DOCUMENTS = ["Makefile", "pyproject.toml", "setup.py", ".ci/run", *(file.name for file in REPOSITORY.glob("*.md"))]
TEXTS = [
    *python_files(*CODE, "tests"),
    *(file for folder in ("docs", "examples", "tests") for file in (REPOSITORY / folder).rglob("*.md")),
    *(file for file in (REPOSITORY / "examples").rglob("*.yaml")),
    *(REPOSITORY / name for name in DOCUMENTS),
]


def test_nothing_is_left_to_do():
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert not [str(file) for file in TEXTS if mark.search(file.read_text(encoding="utf-8"))]
