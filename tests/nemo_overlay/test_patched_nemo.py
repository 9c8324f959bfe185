"""The installed NeMo, copied and patched, needs no overlay."""

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
    "tests/collections/asr/models/masked_token_pred/test_alignment.py",
    "tests/collections/asr/models/masked_token_pred/test_mask_position.py",
    "tests/collections/asr/parts/attention_context",
    "tests/collections/asr/parts/submodules",
)
"""Quick ones; `make patched-tests` runs them all."""


@pytest.mark.slow
def test_a_patched_copy_of_nemo_passes_our_tests_with_the_overlay_off(tmp_path):
    (installed,) = importlib.util.find_spec("nemo").submodule_search_locations[:1]
    shutil.copytree(installed, tmp_path / "nemo")  # with times and bytecode, so that little is compiled again
    subprocess.run([sys.executable, "-m", "nemo_overlay", "apply", str(tmp_path)], cwd=REPOSITORY, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=REPOSITORY,
        env={**os.environ, "NEMO_OVERLAY": "0", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 150
