"""Built, installed and removed by pip, in environments made for it: with a stand-in for NeMo, and once with NeMo."""

import email.message
import importlib.util
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from overlay_trees import (
    NEMO,
    OURS,
    REPOSITORY,
    SHOW_MASK,
    Environment,
    all_packages_but_ours,
    installed_nemo,
    lay_out_clone,
    link_all,
    output,
    packages_for_pip,
    packages_for_pytest,
    run,
    write_files,
)

from nemo_overlay import IN_TREE_MARK, __version__, checks, in_tree

needs_nemo = pytest.mark.skipif(
    installed_nemo() is None
    or IN_TREE_MARK in (installed_nemo() / "collections/asr/models/ssl_models.py").read_text(),
    reason="NeMo is not installed here, or has our half written into it already",
)


def shown(environment: Environment, code: str, **options) -> str:
    return output(code, python=environment.python, **{"flags": (), **options})


# What is built


def test_the_wheel_brings_our_half_inside_our_package_and_nothing_named_nemo(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "nemo_overlay",
        "nemo_streaming_ssl.pth",
        f"nemo_streaming_ssl-{__version__}.dist-info",
    }
    assert {name for name in names if name.startswith("nemo_overlay/nemo/")} == {
        f"nemo_overlay/nemo/{name}" for name in OURS
    }


def test_the_wheel_says_that_the_overlay_has_type_hints(wheel):
    assert "nemo_overlay/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_the_metadata_states_version_ranges_and_extras(wheel):
    metadata = _metadata(wheel)
    assert metadata["Name"] == "nemo-streaming-ssl"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra")) == {"demo", "dev"}
    required = metadata.get_all("Requires-Dist")
    nemo = next(line for line in required if line.startswith("nemo_toolkit[asr]"))
    # Written twice, in pyproject.toml and where the overlay checks it: here they are held together.
    assert set(nemo.removeprefix("nemo_toolkit[asr]").split(",")) == set(checks.SUPPORTED_RANGE.split(","))
    assert "torch>=2.6" in required


def test_the_version_is_written_once():
    number = re.compile(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])")
    files = [REPOSITORY / "pyproject.toml", REPOSITORY / "setup.py", *(REPOSITORY / "nemo_overlay").glob("*.py")]
    assert [file.name for file in files if number.search(file.read_text())] == ["__init__.py"]


def test_the_metadata_passes_twine(wheel):
    if importlib.util.find_spec("twine") is None:
        pytest.skip("twine, which checks the metadata, is not installed")
    done = run("", flags=["-m", "twine", "check", "--strict", str(wheel)])
    assert done.returncode == 0, done.stdout


def test_a_source_distribution_has_all_that_a_wheel_is_built_from(tmp_path):
    clone = lay_out_clone(tmp_path / "clone")
    backend = "import setuptools.build_meta as backend; print(backend.build_sdist('.'))"
    archive = clone / output(backend, flags=(), cwd=clone).splitlines()[-1]
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    ours = {name for name, _ in in_tree.our_files()}
    assert ours and names >= ours | {"setup.py", "pyproject.toml", "README.md", "LICENSE", "nemo_overlay/__main__.py"}


def test_modules_that_are_gone_do_not_come_back_from_an_earlier_build(tmp_path):
    clone = lay_out_clone(tmp_path / "clone", OURS)
    write_files(clone, {"build/lib/nemo_overlay/nemo/collections/asr/gone.py": "raise SystemExit('gone')\n"})
    backend = "import setuptools.build_meta as backend; print(backend.build_wheel('.'))"
    built = clone / output(backend, flags=(), cwd=clone).splitlines()[-1]
    assert not [name for name in zipfile.ZipFile(built).namelist() if "gone" in name]


# What is installed


def test_an_installed_overlay_is_there_from_the_first_import(installed):
    assert shown(installed, SHOW_MASK) == "ours"
    assert shown(installed, SHOW_MASK, overlay="0") == "NeMo's"
    assert shown(installed, SHOW_MASK, flags=["-I"]) == "ours"


def test_status_runs_as_a_module(installed):
    status = shown(installed, "", flags=["-m", "nemo_overlay", "status"])
    assert "overlay: active" in status and "  extends  nemo.collections.asr.masks" in status


def test_modules_of_nemo_and_apps_can_be_run(installed, tmp_path):
    write_files(tmp_path, {"tool/__main__.py": SHOW_MASK, "script.py": SHOW_MASK})
    assert shown(installed, "", flags=["-m", "tool"], cwd=tmp_path) == "ours"
    assert shown(installed, "", flags=["script.py"], cwd=tmp_path) == "ours"
    app = shutil.make_archive(str(tmp_path / "app"), "zip", tmp_path / "tool")
    assert shown(installed, "", flags=[app]) == "ours"
    assert shown(installed, "", flags=["-m", "nemo.collections.asr.models"]) == ""


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers_have_our_half_too(installed, tmp_path, method):
    if method != "spawn" and os.name == "nt":
        pytest.skip(f"Windows has no {method}")
    code = f"""
        import multiprocessing

        def kind(_):
            from nemo.collections.asr.masks import Mask
            return Mask.kind, Mask()

        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                for kind, mask in pool.map(kind, range(2)):
                    print(kind, mask.context)
        """
    write_files(tmp_path, {"main.py": code})
    assert shown(installed, "", flags=["main.py"], cwd=tmp_path) == "ours [160, 0]\nours [160, 0]"


def test_it_works_under_the_import_hook_of_pytest(installed, tmp_path):
    links = link_all(packages_for_pytest(), tmp_path / "links")
    test = """
        def test_mask():
            from nemo.collections.asr.masks import Mask
            assert Mask.kind == "ours"
        """
    write_files(tmp_path, {"user/test_user.py": test})
    flags = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_user.py"]
    report = output("", links, python=installed.python, flags=flags, cwd=tmp_path / "user")
    assert "1 passed" in report


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True], ids=["copied", "editable"])
def test_pip_installs_from_a_clone_and_uninstalls_without_a_trace(tmp_path, editable):
    clone = lay_out_clone(tmp_path / "a clone", OURS)
    environment = Environment(tmp_path / "environment", packages_for_pip())
    write_files(environment.site_packages, NEMO)
    before = environment.contents()
    how = ["--editable"] if editable else []
    environment.pip("install", "--no-deps", "--no-build-isolation", *how, str(clone))

    assert shown(environment, SHOW_MASK) == "ours"
    assert shown(environment, SHOW_MASK, cwd=clone) == "ours"
    assert "overlay: active" in shown(environment, "", flags=["-m", "nemo_overlay", "status"], cwd=clone)
    write_files(clone, {"nemo/collections/asr/masks.py": "class Mask:\n    kind = 'edited'\n"})
    assert shown(environment, SHOW_MASK) == ("edited" if editable else "ours")
    # setuptools' own finder would slow the start of every interpreter more than the overlay does.
    assert not [name for name in environment.contents() - before if "finder" in name]
    # With its own folders named nemo and tests, a clone must not stay on the path of every program.
    assert str(clone) not in shown(environment, "import sys; print(sys.path)")

    environment.pip("uninstall", "--yes", "nemo-streaming-ssl")
    assert environment.contents() == before
    assert shown(environment, SHOW_MASK) == "NeMo's"


@pytest.mark.slow
def test_an_editable_install_beside_an_editable_nemo_leaves_it_alone_when_turned_off(tmp_path):
    clone = lay_out_clone(tmp_path / "clone", OURS)
    nemo = write_files(tmp_path / "NeMo", {**NEMO, "pyproject.toml": NEMO_PROJECT})
    environment = Environment(tmp_path / "environment", packages_for_pip())
    for project in (nemo, clone):
        environment.pip("install", "--no-deps", "--no-build-isolation", "--editable", str(project))
    assert shown(environment, SHOW_MASK) == "ours"
    assert shown(environment, SHOW_MASK, cwd=clone) == "ours"
    assert shown(environment, SHOW_MASK, overlay="0") == "NeMo's"


NEMO_PROJECT = """\
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"
    [project]
    name = "nemo_toolkit"
    version = "3.0.0"
    [tool.setuptools.packages.find]
    include = ["nemo", "nemo.*"]
    """


# NeMo itself


@needs_nemo
def test_our_half_follows_the_installed_nemo_file_by_file():
    root = installed_nemo().parent
    changes = in_tree.plan(root)
    assert {"new", "extends"} == {change.kind for change in changes}
    # A file in a folder that NeMo does not have belongs to a package of ours, not to one that NeMo has renamed.
    new_folders = {Path(change.file).parent for change in changes if not (root / change.file).parent.is_dir()}
    files = {change.file for change in changes}
    assert not [folder for folder in new_folders if f"{folder.as_posix()}/__init__.py" not in files]


FIRST_IMPORT = """
    from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking
    import copy, inspect, pickle, sys
    from torch.utils.data import DataLoader
    from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer, set_dynamic_context
    ours = RandomBlockMasking.forward_causal
    print(inspect.getsourcefile(ours))
    print(inspect.getsource(ours).splitlines()[0].strip())
    masking = RandomBlockMasking(feat_in=8, causal=True, left_context_size=160)
    twins = copy.deepcopy(masking), pickle.loads(pickle.dumps(masking))
    print([(type(twin) is RandomBlockMasking, twin.left_context_size) for twin in twins])
    class Names:
        def __len__(self):
            return 2
        def __getitem__(self, index):
            return inspect.getsourcefile(ours)
    print(set(sum(DataLoader(Names(), num_workers=1, collate_fn=list), [])))
    """

MASKING = "collections/asr/modules/ssl_modules/masking.py"


@needs_nemo
@pytest.mark.slow
def test_a_wheel_of_this_repository_extends_nemo_itself(tmp_path):
    clone = lay_out_clone(tmp_path / "clone")
    environment = Environment(tmp_path / "environment", all_packages_but_ours())
    before = environment.contents()
    environment.pip("install", "--no-deps", "--no-build-isolation", str(clone))

    file, source, twins, seen_by_worker = shown(environment, FIRST_IMPORT).splitlines()[-4:]
    assert file == str(environment.site_packages / "nemo_overlay/nemo" / MASKING)
    assert source.startswith("def forward_causal(")
    assert twins == "[(True, 160), (True, 160)]"
    assert seen_by_worker == str({file})

    environment.pip("uninstall", "--yes", "nemo-streaming-ssl")
    assert environment.contents() == before


@needs_nemo
@pytest.mark.slow
def test_a_patched_copy_of_nemo_itself_works_without_the_overlay(tmp_path):
    # With times and bytecode, so that only what is patched is compiled again.
    shutil.copytree(installed_nemo(), tmp_path / "tree" / "nemo")
    in_tree.apply(tmp_path / "tree")
    first, *_, last = output(FIRST_IMPORT, tmp_path / "tree", installed_nemo().parent, overlay="0").splitlines()[-4:]
    assert first == str(tmp_path / "tree/nemo" / MASKING)
    assert last == str({first})


def _metadata(wheel: Path) -> email.message.Message:
    return email.message_from_bytes(
        zipfile.ZipFile(wheel).read(f"nemo_streaming_ssl-{__version__}.dist-info/METADATA")
    )
