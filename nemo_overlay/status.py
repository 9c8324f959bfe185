"""What `python -m nemo_overlay status` prints, found out without importing NeMo."""

import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec

import nemo_overlay
from nemo_overlay.checks import SUPPORTED_RANGE, copies_on_path, describe_copies, is_supported, stated_version
from nemo_overlay.in_tree import our_files


def report() -> str:
    """NeMo's version and place, whether the overlay is active or why not, and each module of ours."""
    nemo = find_spec("nemo")
    version = None if nemo is None else _version(nemo)
    lines = [
        f"nemo-streaming-ssl {nemo_overlay.__version__} at {os.path.dirname(nemo_overlay.__file__)}",
        _describe_nemo(nemo, version),
    ]
    obstacle = _obstacle(nemo, version)
    lines.append(f"overlay: not active: {obstacle}" if obstacle else "overlay: active")
    if nemo is not None and version is not None:
        lines += _modules(nemo)
    return "\n".join(lines)


def _describe_nemo(nemo: ModuleSpec | None, version: str | None) -> str:
    if nemo is None:
        return "NeMo: not found"
    place = ", ".join(nemo.submodule_search_locations or [nemo.origin or "?"])
    if version is None:
        return f"NeMo: not found: the `nemo` on sys.path, {place}, is not NVIDIA's"
    note = "" if is_supported(version) else f" (not supported: the range is {SUPPORTED_RANGE})"
    return f"NeMo {version} at {place}{note}"


def _obstacle(nemo: ModuleSpec | None, version: str | None) -> str | None:
    """Why our half would not be laid over NeMo; None if it is."""
    if os.environ.get("NEMO_OVERLAY") == "0":
        return "NEMO_OVERLAY=0 is set"
    copies = copies_on_path(sys.path)
    if len(copies) > 1:
        return describe_copies(copies)
    if not nemo_overlay.is_active():
        return "this copy is not installed here (pip install .), and nothing called nemo_overlay.install()"
    if nemo is None or version is None:
        return "there is no NeMo to lay it over"
    if any(kind == "in NeMo" for kind, _ in _kinds(nemo)):
        return "this NeMo has our half written into it (python -m nemo_overlay apply)"
    return None


def _modules(nemo: ModuleSpec) -> Iterator[str]:
    for kind, name in _kinds(nemo):
        yield f"  {kind:<7}  {name}"


def _kinds(nemo: ModuleSpec) -> Iterator[tuple[str, str]]:
    for file, _ in our_files():
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        theirs = _find_in(nemo, name)
        if theirs is None:
            yield "new", name
        else:
            yield ("in NeMo" if nemo_overlay.carries_our_half(theirs) else "extends"), name


def _version(nemo: ModuleSpec) -> str | None:
    package_info = _find_in(nemo, "nemo.package_info")
    get_source = getattr(package_info and package_info.loader, "get_source", None)
    return stated_version(get_source("nemo.package_info") or "") if get_source else None


def _find_in(nemo: ModuleSpec, name: str) -> ModuleSpec | None:
    """NeMo's own spec of module `name`, without importing the packages above it, as importlib's find_spec would."""
    parents = name.split(".")[1:-1]
    spec = PathFinder.find_spec(name, [os.path.join(p, *parents) for p in nemo.submodule_search_locations or ()])
    return spec if spec is not None and spec.loader is not None else None
