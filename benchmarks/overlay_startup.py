"""What the overlay costs: when any interpreter starts, and when NeMo is imported.

    $ python benchmarks/overlay_startup.py

Start-up is measured in fresh virtual environments that differ in nothing but our install, in turn, many times; a row
is the median, and the median of its differences from the empty environment in the same round. The promise to an
interpreter that never imports NeMo is less than 5 ms. The import of NeMo (`nemo.collections.asr.models`) is measured
once, by timers around our finder and around the execution of our files.
"""

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

NEMO_IMPORT = """
import importlib.machinery
import sys
import time

import nemo_overlay


class Watch:
    # Adds up the seconds of calls. Our files import each other: only the outermost call counts.
    def __init__(self):
        self.seconds, self.depth = 0.0, 0

    def timed(self, function, *arguments):
        self.depth += 1
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.perf_counter() - start


class OtherFinder:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, *arguments):
        # What the others take within our finder they would take without it too.
        if ours.depth == 0:
            return self.finder.find_spec(*arguments)
        return others.timed(self.finder.find_spec, *arguments)


ours, others, files = Watch(), Watch(), Watch()
find_spec = nemo_overlay.OverlayFinder.find_spec
nemo_overlay.OverlayFinder.find_spec = lambda self, *arguments: ours.timed(find_spec, self, *arguments)
nemo_overlay.install()
tree = nemo_overlay.find_tree()
sys.meta_path[1:] = [OtherFinder(finder) for finder in sys.meta_path[1:]]

loader = importlib.machinery.SourceFileLoader
exec_module = loader.exec_module


def timed_where_ours(self, module):
    if self.path.startswith(tree):
        return files.timed(exec_module, self, module)
    return exec_module(self, module)


loader.exec_module = timed_where_ours
start = time.perf_counter()
import nemo.collections.asr.models
whole = time.perf_counter() - start
print(whole, ours.seconds - others.seconds, files.seconds, len(nemo_overlay.laid_over))
"""


def make_environment(root: Path, build: str | None) -> tuple[Path, Path]:
    """A virtual environment with our wheel, built by setuptools' hook `build`; its interpreter and site-packages."""
    venv.create(root)
    site_packages = next(root.rglob("site-packages"))
    if build is not None:
        command = f"import setuptools.build_meta as backend; print(backend.{build}({str(root)!r}))"
        done = subprocess.run(
            [sys.executable, "-c", command], cwd=copy_of_repository(root), check=True, capture_output=True, text=True
        )
        zipfile.ZipFile(root / done.stdout.split()[-1]).extractall(site_packages)
    return root / ("Scripts" if os.name == "nt" else "bin") / "python", site_packages


def copy_of_repository(folder: Path) -> Path:
    """What a build needs, apart from the repository, in which it would leave its own folders."""
    copy = folder / "repository"
    for name in ("nemo", "nemo_overlay"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, copy)
    return copy


def start_up(python: Path, **environment: str) -> float:
    """Milliseconds from start to end of an interpreter that does nothing."""
    start = time.perf_counter()
    subprocess.run([python, "-I", "-c", "pass"], check=True, env={**os.environ, **environment})
    return 1e3 * (time.perf_counter() - start)


def measure_start_up(folder: Path, runs: int) -> None:
    """Print the medians of `runs` rounds."""
    bare, _ = make_environment(folder / "bare", None)
    built, _ = make_environment(folder / "built", "build_wheel")
    editable, _ = make_environment(folder / "editable", "build_editable")
    cases = {
        "without the overlay": (bare, {}),
        "with it, installed": (built, {}),
        "with it, installed, NEMO_OVERLAY=0": (built, {"NEMO_OVERLAY": "0"}),
        "with it, editable": (editable, {}),
    }
    rounds = []
    # The first rounds write and read bytecode for the first time.
    for _ in range(runs + 3):
        rounds.append({name: start_up(python, **environment) for name, (python, environment) in cases.items()})
    rounds = rounds[3:]
    print(f"start of an interpreter, median of {runs}")
    for name in cases:
        median = statistics.median(r[name] for r in rounds)
        more = statistics.median(r[name] - r["without the overlay"] for r in rounds)
        print(f"  {name:<36} {median:6.1f} ms   {more:+5.1f} ms")


def measure_nemo_import(folder: Path) -> None:
    """Print what our finder and our files take of one import of NeMo."""
    nemo = importlib.util.find_spec("nemo")
    if nemo is None or nemo.origin is None:
        print("import of NeMo: NeMo is not installed here")
        return
    path = os.pathsep.join([str(folder / "built" / "repository"), str(Path(nemo.origin).parent.parent)])
    # -S: no .pth file, so that what is installed in this environment takes no part.
    done = subprocess.run(
        [sys.executable, "-S", "-c", NEMO_IMPORT],
        env={**os.environ, "PYTHONPATH": path, "NEMO_OVERLAY": "1"},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    whole, finder, files, count = map(float, done.stdout.split()[-4:])
    print("import of nemo.collections.asr.models, once")
    print(f"  {'all of it':<36} {1e3 * whole:6.0f} ms")
    print(f"  {'finding our files':<36} {1e3 * finder:6.1f} ms   {100 * finder / whole:5.2f} %")
    label = f"executing {count:.0f} of them"
    print(f"  {label:<36} {1e3 * files:6.1f} ms   {100 * files / whole:5.2f} %   (with what they import first)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, help="rounds of start-ups (100)")
    parser.add_argument("--skip-nemo", action="store_true", help="do not import NeMo, which takes its time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_start_up(Path(folder), options.runs)
        if not options.skip_nemo:
            measure_nemo_import(Path(folder))


if __name__ == "__main__":
    main()
