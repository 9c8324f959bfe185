"""The installed NeMo, copied and patched, passes our tests with the overlay off."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/collections/asr/losses",
    "tests/collections/asr/modules",
    "tests/collections/asr/models/test_ssl_models.py",
    "tests/collections/asr/parts/submodules",
    "tests/collections/asr/parts/utils/test_attention_context.py",
    "tests/collections/asr/parts/utils/test_dynamic_context.py",
)
"""Those that train for long or start processes of their own are left to `make patched-tests`."""


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the installed NeMo, into which our half is written."""
    tree = tmp_path_factory.mktemp("tree")
    (installed,) = importlib.util.find_spec("nemo").submodule_search_locations[:1]
    shutil.copytree(installed, tree / "nemo", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "nemo_overlay", "apply", str(tree)], cwd=REPOSITORY, check=True)
    return tree


def run_alone(patched: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python on the patched tree, without the overlay."""
    environment = {**os.environ, "NEMO_OVERLAY": "0", "PYTHONPATH": str(patched)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)


def test_it_is_imported_alone(patched):
    code = (
        "import nemo, nemo.collections.asr.models.ssl_models as ssl_models; "
        "import nemo.collections.asr.parts.utils.encoder_stream as new; "
        "print(nemo.__file__, new.__file__, hasattr(ssl_models, 'SpeechFeatures'))"
    )
    done = run_alone(patched, "-c", code)
    assert done.returncode == 0, done.stderr
    new = patched / "nemo/collections/asr/parts/utils/encoder_stream.py"
    assert done.stdout.split() == [str(patched / "nemo/__init__.py"), str(new), "True"]


def test_it_passes_our_tests(patched):
    done = run_alone(patched, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert done.returncode == 0, done.stdout[-4000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 300
