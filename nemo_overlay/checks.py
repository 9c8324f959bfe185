"""What is checked before our half is laid over a NeMo, and the messages for when it does not hold."""

import ast
import os
import re
import sys
import warnings
from collections.abc import Iterable
from types import ModuleType

import nemo_overlay
from nemo_overlay import OverlayError

# NeMo 2.7 and 3.0 sample masks differently: 2.7 utterance by utterance, with blocks of 8 frames in short utterances.
# Our half samples them as 3.0 does on both, so only tests that compare with NeMo's own masks depend on the version.
# What our half uses of NeMo otherwise is the same in both.
OLDEST_NEMO = (2, 7, 3)
FIRST_UNSUPPORTED_NEMO = (3, 1)
SUPPORTED_RANGE = ">={},<{}".format(*(".".join(map(str, v)) for v in (OLDEST_NEMO, FIRST_UNSUPPORTED_NEMO)))


def is_supported(nemo_version: str) -> bool:
    """Whether a NeMo of this version (``3.0.0``, ``3.0.0rc1``) lies in `SUPPORTED_RANGE`."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", nemo_version)[:3])
    return OLDEST_NEMO <= numbers < FIRST_UNSUPPORTED_NEMO


def running_version() -> str:
    """The version of the imported NeMo, by its own file: the metadata may be another NeMo's."""
    info = sys.modules["nemo.package_info"]
    return getattr(info, "__shortversion__", None) or info.__version__


def stated_version(package_info: str) -> str | None:
    """The version in the text of a NeMo's ``package_info.py``, which is not executed; None if it is not NeMo's."""
    try:
        statements = ast.parse(package_info).body
    except (SyntaxError, ValueError):
        return None
    stated = {
        node.targets[0].id: node.value.value
        for node in statements
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    if stated.get("__package_name__") != "nemo_toolkit" or not {"MAJOR", "MINOR", "PATCH"} <= stated.keys():
        return None
    return ".".join(str(stated[part]) for part in ("MAJOR", "MINOR", "PATCH"))


def describe_running_nemo() -> str:
    """The version and place of the imported NeMo, and on which side of the supported range it is."""
    version, place = running_version(), os.path.dirname(sys.modules["nemo.package_info"].__file__ or "")
    side = "within" if is_supported(version) else "outside"
    return f"NeMo {version} at {place} is {side} {SUPPORTED_RANGE}"


def check_environment() -> None:
    """Warn of a NeMo outside the supported range; refuse to run where two installs of ours could answer.

    Raises:
        OverlayError: two installs of ours are on ``sys.path``: which one is used is an accident of its order.
    """
    copies = copies_on_path(sys.path)
    if len(copies) > 1:
        raise OverlayError(describe_copies(copies))
    if not is_supported(running_version()):
        warnings.warn(
            f"{describe_running_nemo()}, the range of nemo-streaming-ssl: its modules may not work as documented. "
            "NEMO_OVERLAY=0 turns them off.",
            RuntimeWarning,
            stacklevel=2,
        )


def copies_on_path(path: Iterable[str]) -> list[str]:
    """The folders of several installs of ours, or the one from which this copy runs.

    An install is a folder with our metadata, or with a ``nemo_overlay`` that has its half of NeMo inside. A clone of
    this project has neither, so that standing in one is no second install.
    """
    running = os.path.dirname(nemo_overlay.__file__)
    packages = [os.path.join(entry, "nemo_overlay") for entry in path]
    built = _distinct([running, *(package for package in packages if os.path.isdir(os.path.join(package, "nemo")))])
    registered = _distinct(entry for entry in path if _has_metadata(entry))
    return built if len(built) >= len(registered) else registered


def describe_copies(copies: Iterable[str]) -> str:
    """The error for several installs of ours on the path."""
    return (
        f"nemo-streaming-ssl must be installed once on sys.path; got {', '.join(copies)}; remove all but one with "
        "`pip uninstall nemo-streaming-ssl` in the environment that each belongs to, or take their folder out of "
        "PYTHONPATH"
    )


def describe_failure(module: ModuleType, file: str, error: Exception) -> str:
    """The error for a file of ours that fails: the file, the cause, and the NeMo that it met."""
    return (
        f"{file}, which nemo-streaming-ssl lays over {module.__name__}, failed: {type(error).__name__}: {error} "
        f"({describe_running_nemo()})"
    )


def _distinct(folders: Iterable[str]) -> list[str]:
    return list({os.path.realpath(folder): folder for folder in folders}.values())


def _has_metadata(entry: str) -> bool:
    try:
        names = os.listdir(entry or os.curdir)
    except OSError:
        return False
    return any(name.startswith("nemo_streaming_ssl-") and name.endswith(".dist-info") for name in names)
