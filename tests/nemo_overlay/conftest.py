from collections.abc import Callable
from pathlib import Path

import pytest
from overlay_trees import (
    NEMO,
    OURS,
    Environment,
    lay_out_built,
    lay_out_clone,
    packages_for_pip,
    write_files,
)

from nemo_overlay import in_tree


@pytest.fixture
def nemo(tmp_path: Path) -> Path:
    """A folder that holds the stand-in for NeMo."""
    return write_files(tmp_path / "NeMo", NEMO)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder that holds a built install of ours with the stand-in for our half."""
    return lay_out_built(tmp_path / "built")


@pytest.fixture
def build_ours(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Makes a folder that holds a built install of ours with the given half."""
    return lambda ours: lay_out_built(tmp_path / "built", ours)


@pytest.fixture
def our_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in for our half, which the commands then write and compare."""
    tree = write_files(tmp_path / "ours", OURS)
    monkeypatch.setattr(in_tree, "find_tree", lambda: str(tree))
    return tree


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built by pip from a copy of this repository with the stand-in for our half."""
    root = tmp_path_factory.mktemp("wheel")
    clone = lay_out_clone(root / "clone", OURS)
    builder = Environment(root / "builder", packages_for_pip())
    builder.pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(root), str(clone))
    return next(root.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the stand-in for NeMo, and that wheel installed: what its tests must leave as it is."""
    environment = Environment(tmp_path_factory.mktemp("installed"), packages_for_pip())
    write_files(environment.site_packages, NEMO)
    environment.pip("install", "--no-deps", str(wheel))
    return environment
