"""Runs NVIDIA's own tests of the modules that we extend, with the patch off and on, and compares.

    make nemo-tests
    python tests/tools/nemo_suite.py --wheel nemo_toolkit-2.7.3-py3-none-any.whl

It fails if a test that passes with the patch off does not pass with it on. The wheel of NeMo 2.7.3 ships NVIDIA's
tests; they are unpacked into a temporary folder and run against the NeMo that is installed, whichever that is. Those
that need downloads are skipped by NVIDIA's own markers.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

WHEEL = "nemo_toolkit==2.7.3"
SELECTION = (
    "collections/asr/test_ssl_models.py",  # the quantizer's tests too
    "collections/asr/test_conformer_encoder.py",
    "collections/asr/test_asr_modules.py",
    "collections/asr/test_asr_local_attn.py",
    "collections/asr/test_asr_subsampling.py",
    "collections/asr/test_asr_filterbankfeatures_seq_len.py",
    "collections/asr/test_asr_ctcencdec_model.py",
    "collections/asr/test_asr_rnnt_encdec_model.py",
    "collections/asr/test_asr_hybrid_rnnt_ctc_model_char.py",
    "collections/asr/test_asr_interctc_models.py",
    "collections/asr/test_asr_datasets.py",
    "collections/asr/test_asr_lhotse_dataset.py",
    "collections/asr/test_padding_and_batch_size_invariance.py",
    "collections/asr/decoding/test_streaming_buffer.py",
    "collections/asr/decoding/test_streaming_decoding.py",
    "collections/asr/inference",
    "collections/asr/mixins/adapters",
    "collections/common/test_lhotse_nemo_adapters.py",
    "collections/common/test_ema.py",  # its checkpoints are saved and loaded by exp_manager's callback
    "core/test_exp_manager.py",
    "core/test_save_restore.py",
)

# A newer NeMo lacks modules that whole files of tests import for a few of their tests.
STAND_INS = """
import importlib.util, sys, types

name = "nemo.collections.common.parts.nlp_overrides"
if importlib.util.find_spec(name) is None:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].NLPDDPStrategy = None
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a wheel that was downloaded before; default: downloads it")
    parser.add_argument("--only", nargs="+", choices=SELECTION, default=SELECTION, metavar="PATH")
    return parser.parse_args()


def unpack_tests(wheel: Path | None, folder: Path) -> None:
    """Lays the wheel's `tests/` into `folder`."""
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True)
        (wheel,) = folder.glob("nemo_toolkit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.startswith("tests/")]
        if not members:
            raise SystemExit(f"{wheel} holds no tests/; the wheel of {WHEEL} does")
        archive.extractall(folder, members)
    # NVIDIA's conftest wants its archive of test data; the tests selected here need none of it.
    (folder / "stand_ins.py").write_text(STAND_INS)
    data = folder / "tests/.data"
    data.mkdir()
    tarfile.open(data / "test_data.tar.gz", "w:gz").close()


def outcomes(folder: Path, selection: list[str], overlay: str) -> dict[str, str]:
    """Each test's outcome (passed, failed, error or skipped) with `NEMO_OVERLAY` set to `overlay`."""
    report = folder / f"overlay-{overlay}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--cpu", "--use_local_test_data", "-p", "no:cacheprovider"]
    command += ["-p", "stand_ins", "--continue-on-collection-errors"]
    command += ["--rootdir", str(folder), f"--junitxml={report}", "--tb=no", "-W", "ignore"]
    command += [f"tests/{path}" for path in selection]
    environment = {**os.environ, "NEMO_OVERLAY": overlay, "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(command, cwd=folder, env=environment)
    if not report.is_file():
        raise SystemExit(f"pytest ended with status {finished.returncode} before any test, NEMO_OVERLAY={overlay}")
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
    return found


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unpack_tests(arguments.wheel and arguments.wheel.resolve(), folder)
        off, on = (outcomes(folder, list(arguments.only), overlay) for overlay in ("0", "1"))
    passed = [test for test, outcome in off.items() if outcome == "passed"]
    if not passed:
        raise SystemExit("no test passed on NeMo alone, so there is nothing to compare")
    lost = [test for test in passed if on.get(test) != "passed"]
    gained = [test for test, outcome in on.items() if outcome == "passed" and off.get(test) != "passed"]
    print("\n| NVIDIA's tests | NeMo alone | with the patch |\n|---|---|---|")
    for kind in ("passed", "failure", "error", "skipped"):
        print(f"| {kind} | {list(off.values()).count(kind)} | {list(on.values()).count(kind)} |")
    for title, tests in (("passed on NeMo alone and no longer", lost), ("pass with the patch alone", gained)):
        for test in tests:
            print(f"{title}: {test}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
