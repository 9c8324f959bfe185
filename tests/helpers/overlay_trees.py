"""Small stand-ins for NeMo and for our half, so that each promise of the overlay is tested in milliseconds.

Code under test runs in an interpreter of its own, started with ``-S``: without the site-packages of the environment,
so that nothing depends on what is installed there, our own overlay included.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import venv
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

PACKAGE_INFO = """\
MAJOR = 3
MINOR = 0
PATCH = 0
PRE_RELEASE = ""
VERSION = (MAJOR, MINOR, PATCH, PRE_RELEASE)
__shortversion__ = ".".join(map(str, VERSION[:3]))
__version__ = __shortversion__ + PRE_RELEASE
__package_name__ = "nemo_toolkit"
"""

# What NeMo is to the overlay: a package with NVIDIA's package_info, and modules that we extend or leave alone.
NEMO = {
    "nemo/__init__.py": "from nemo.package_info import __version__\n",
    "nemo/package_info.py": PACKAGE_INFO,
    "nemo/collections/__init__.py": "",
    "nemo/collections/asr/__init__.py": "",
    "nemo/collections/asr/masks.py": """\
        '''NeMo's own file.'''

        class Mask:
            kind = "NeMo's"

        class Kept:
            pass

        def theirs():
            return "NeMo's function"
        """,
    "nemo/collections/asr/models.py": """\
        from nemo.collections.asr.masks import Mask

        def build():
            return Mask()
        """,
    "nemo/collections/asr/untouched.py": 'kind = "NeMo\'s"\n',
}

# Our half of it, by paths below our folder nemo/.
OURS = {
    "collections/asr/masks.py": """\
        from nemo.collections.asr.masks import Mask as NemoMask
        from nemo.collections.asr.contexts import DEFAULT

        class Mask(NemoMask):
            kind = "ours"
            context = DEFAULT

        def ours():
            return "our function"

        def fails():
            raise ValueError("in our function")
        """,
    "collections/asr/models.py": "built_by = 'both halves'\n",
    "collections/asr/contexts.py": "DEFAULT = [160, 0]\n",
}

ACTIVATE = "import nemo_overlay; nemo_overlay.install()\n"
# `apply {nemo}`, which does `then` in place of replacing the third file.
CUT_OFF = """
    import os, runpy, signal, sys
    real, calls = os.replace, iter(range(9))
    def replace(source, target):
        if next(calls) == 2:
            {then}
        real(source, target)
    os.replace = replace
    sys.argv = ["nemo_overlay", "apply", {nemo!r}]
    runpy.run_module("nemo_overlay", run_name="__main__")
    """
SHOW_MASK = "from nemo.collections.asr.masks import Mask; print(Mask.kind)"


def write_files(root: Path, files: dict[str, str]) -> Path:
    """Write the dedented texts below `root`, and return it."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(textwrap.dedent(text).encode())
    return root


def snapshot(root: Path) -> dict[str, bytes]:
    """All files below `root`, but for bytecode, with their contents."""
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def run(
    code: str,
    *path: Path,
    flags: Iterable[str] = (),
    python: Path | str = sys.executable,
    overlay: str | None = None,
    cwd: Path = HERE,
) -> subprocess.CompletedProcess:
    """Run `code`, or what `flags` name when it is empty, with `path` as PYTHONPATH and `overlay` as NEMO_OVERLAY.

    The current folder comes before PYTHONPATH, so that by default it is one where nothing can be imported.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("NEMO_OVERLAY", "PYTHONPATH")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    if overlay is not None:
        environment["NEMO_OVERLAY"] = overlay
    command = [str(python), *flags, *(["-c", textwrap.dedent(code)] if code else [])]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)


def output(code: str, *path: Path, flags: Iterable[str] = ("-S",), **options) -> str:
    """Standard output of code that must succeed, in an interpreter without site-packages."""
    done = run(code, *path, flags=flags, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def failure(code: str, *path: Path, flags: Iterable[str] = ("-S",), **options) -> str:
    """Standard error of code that must fail, in an interpreter without site-packages."""
    done = run(code, *path, flags=flags, **options)
    assert done.returncode != 0, done.stdout
    return done.stderr


def lay_out_built(root: Path, ours: dict[str, str] = OURS) -> Path:
    """A folder as a built install of ours leaves it, but for metadata: for PYTHONPATH."""
    shutil.copytree(
        REPOSITORY / "nemo_overlay",
        root / "nemo_overlay",
        ignore=shutil.ignore_patterns("__pycache__", "nemo"),
    )
    write_files(root / "nemo_overlay" / "nemo", ours)
    return root


def lay_out_clone(root: Path, ours: dict[str, str] | None = None) -> Path:
    """A clone of this repository, with our half replaced by `ours` where that is given."""
    for name in ("setup.py", "pyproject.toml"):
        root.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root)
    for name in ("README.md", "LICENSE"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, root)
        else:
            (root / name).write_text(f"{name} of a copy made for tests\n")
    shutil.copytree(REPOSITORY / "nemo_overlay", root / "nemo_overlay", ignore=shutil.ignore_patterns("__pycache__"))
    if ours is None:
        shutil.copytree(REPOSITORY / "nemo", root / "nemo", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        write_files(root / "nemo", ours)
    return root


def installed_nemo() -> Path | None:
    """The folder nemo of the running environment's NeMo. A clone's own folder nemo has no __init__.py."""
    nemo = importlib.util.find_spec("nemo")
    return Path(nemo.origin).parent if nemo is not None and nemo.origin else None


def link_all(packages: Iterable[Path], folder: Path) -> Path:
    """Make `folder`, for PYTHONPATH, with a link to each package."""
    folder.mkdir()
    for package in packages:
        (folder / package.name).symlink_to(package)
    return folder


class Environment:
    """A virtual environment that sees chosen packages of the running one through a folder of links."""

    def __init__(self, root: Path, packages: Iterable[Path]):
        venv.create(root, symlinks=os.name != "nt")
        self.python = root / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.site_packages = next(root.rglob("site-packages"))
        links = link_all(packages, root / "links")
        (self.site_packages / "links.pth").write_text(f"{links}\n")

    def pip(self, *arguments: str) -> None:
        """Run the running environment's pip on this environment, without a network."""
        quiet = ("--quiet", "--disable-pip-version-check")
        done = run("", flags=("-m", "pip", *arguments, *quiet), python=self.python)
        assert done.returncode == 0, done.stderr

    def contents(self) -> set[str]:
        """All that lies in site-packages, bytecode and folders included."""
        return {file.relative_to(self.site_packages).as_posix() for file in self.site_packages.rglob("*")}


def packages_for_pip() -> list[Path]:
    """What pip needs to install a project with setuptools and without a network: the metadata too."""
    return _beside("setuptools", "pip", "wheel*", "setuptools*", "_distutils_hack")


def packages_for_pytest() -> list[Path]:
    """What pytest needs to run."""
    return _beside(
        "pytest",
        "pytest",
        "_pytest",
        "py.py",
        "pluggy",
        "iniconfig",
        "packaging",
        "pygments",
        "exceptiongroup*",
        "typing_extensions*",
        "tomli*",
    )


def all_packages_but_ours() -> list[Path]:
    """Everything in the site-packages of the running environment that is neither ours nor a .pth file."""
    return [
        entry
        for entry in installed_nemo().parent.iterdir()
        if entry.suffix != ".pth" and "nemo_streaming_ssl" not in entry.name and entry.name != "nemo_overlay"
    ]


def _beside(package: str, *patterns: str) -> list[Path]:
    return [entry for pattern in patterns for entry in _place_of(package).parent.glob(pattern)]


def _place_of(package: str) -> Path:
    return Path(importlib.util.find_spec(package).submodule_search_locations[0])
