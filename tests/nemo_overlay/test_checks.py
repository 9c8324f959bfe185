"""What is checked before our half is laid over a NeMo."""

import pytest
from overlay_trees import (
    ACTIVATE,
    OURS,
    PACKAGE_INFO,
    SHOW_MASK,
    failure,
    lay_out_built,
    lay_out_clone,
    output,
    run,
    write_files,
)


@pytest.mark.parametrize("version", ["2.7.2", "3.1.0", "1.23.0"])
def test_an_unsupported_nemo_is_one_warning_that_names_the_range(nemo, built, version):
    write_files(nemo, {"nemo/package_info.py": _package_info(version)})
    code = ACTIVATE + "import nemo.collections.asr.untouched\n"
    assert run(code, nemo, built, flags=["-S", "-W", "always"]).stderr == ""
    done = run(code + "import nemo.collections.asr.models", nemo, built, flags=["-S", "-W", "always"])
    assert done.returncode == 0
    assert done.stderr.count("RuntimeWarning") == 1
    assert f"NeMo {version} at {nemo}/nemo is outside >=2.7.3,<3.1" in done.stderr


@pytest.mark.parametrize("version", ["2.7.3", "2.8.0", "3.0.0", "3.0.9"])
def test_a_supported_nemo_is_no_warning(nemo, built, version):
    write_files(nemo, {"nemo/package_info.py": _package_info(version)})
    assert run(ACTIVATE + SHOW_MASK, nemo, built, flags=["-S", "-W", "error"]).stdout == "ours\n"


def test_two_installs_on_the_path_are_one_clear_error(nemo, built, tmp_path):
    other = lay_out_built(tmp_path / "other")
    error = failure(ACTIVATE + SHOW_MASK, nemo, built, other)
    assert error.count("nemo_overlay.OverlayError: ") == 1
    assert "must be installed once on sys.path; got" in error and "pip uninstall nemo-streaming-ssl" in error
    assert f"{built}/nemo_overlay, {other}/nemo_overlay" in error
    assert (
        output(ACTIVATE + "import nemo.collections.asr.untouched as m; print(m.kind)", nemo, built, other) == "NeMo's"
    )


def test_two_registered_installs_are_an_error_even_where_one_runs_from_a_clone(nemo, tmp_path):
    clone = lay_out_clone(tmp_path / "clone", OURS)
    registered = [tmp_path / name / "nemo_streaming_ssl-0.1.0.dist-info" for name in ("one", "two")]
    for folder in registered:
        folder.mkdir(parents=True)
    places = [folder.parent for folder in registered]
    assert output(ACTIVATE + SHOW_MASK, nemo, clone, places[0]) == "ours"
    assert f"sys.path; got {places[0]}, {places[1]};" in failure(ACTIVATE + SHOW_MASK, nemo, clone, *places)


def test_the_same_install_reached_by_two_paths_is_one(nemo, built, tmp_path):
    (tmp_path / "link").symlink_to(built)
    assert output(ACTIVATE + SHOW_MASK, nemo, built, tmp_path / "link") == "ours"


def test_a_clone_in_the_current_folder_is_no_second_install(nemo, built, tmp_path):
    clone = lay_out_clone(tmp_path / "clone", OURS)
    code = "import sys; sys.path.append(sys.path.pop(0))\n"
    assert output(code + ACTIVATE + SHOW_MASK, nemo, built, cwd=clone) == "ours"


def _package_info(version: str) -> str:
    major, minor, patch = version.split(".")
    text = PACKAGE_INFO.replace("MAJOR = 3", f"MAJOR = {major}").replace("MINOR = 0", f"MINOR = {minor}")
    return text.replace("PATCH = 0", f"PATCH = {patch}")
