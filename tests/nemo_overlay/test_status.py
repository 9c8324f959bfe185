"""What `python -m nemo_overlay status` tells, without importing NeMo."""

from overlay_trees import ACTIVATE, NEMO, OURS, PACKAGE_INFO, lay_out_built, lay_out_clone, output, write_files

from nemo_overlay import __version__

STATUS = "import runpy, sys; sys.argv[1:] = ['status']; runpy.run_module('nemo_overlay', run_name='__main__')\n"


def test_an_active_overlay_lists_each_module_with_what_it_does(nemo, built):
    assert output(ACTIVATE + STATUS, nemo, built).splitlines() == [
        f"nemo-streaming-ssl {__version__} at {built}/nemo_overlay",
        f"NeMo 3.0.0 at {nemo}/nemo",
        "overlay: active",
        "  new      nemo.collections.asr.contexts",
        "  extends  nemo.collections.asr.masks",
        "  extends  nemo.collections.asr.models",
    ]


def test_nothing_of_nemo_is_executed(nemo, built):
    write_files(nemo, {"nemo/__init__.py": "raise SystemExit('imported')\n"})
    assert "overlay: active" in output(ACTIVATE + STATUS, nemo, built)


def test_it_says_when_the_environment_variable_turns_it_off(nemo, built):
    lines = output(ACTIVATE + STATUS, nemo, built, overlay="0").splitlines()
    assert lines[2] == "overlay: not active: NEMO_OVERLAY=0 is set"
    assert "  extends  nemo.collections.asr.masks" in lines


def test_it_says_when_it_was_never_installed(nemo, tmp_path):
    clone = lay_out_clone(tmp_path / "clone", OURS)
    assert "overlay: not active: this copy is not installed here (pip install .)" in output(STATUS, nemo, clone)


def test_it_says_when_there_is_no_nemo(built):
    shown = output(ACTIVATE + STATUS, built).splitlines()
    assert shown[1:] == ["NeMo: not found", "overlay: not active: there is no NeMo to lay it over"]


def test_it_says_when_the_nemo_found_is_a_namesake(built, tmp_path):
    namesake = write_files(tmp_path / "hostile", {**NEMO, "nemo/package_info.py": "__version__ = '3.0.0'\n"})
    shown = output(ACTIVATE + STATUS, namesake, built).splitlines()
    assert shown[1] == f"NeMo: not found: the `nemo` on sys.path, {namesake}/nemo, is not NVIDIA's"
    assert shown[2:] == ["overlay: not active: there is no NeMo to lay it over"]


def test_it_says_when_the_version_is_not_supported(nemo, built):
    write_files(nemo, {"nemo/package_info.py": PACKAGE_INFO.replace("MINOR = 0", "MINOR = 2")})
    shown = output(ACTIVATE + STATUS, nemo, built).splitlines()
    assert shown[1:3] == [
        f"NeMo 3.2.0 at {nemo}/nemo (not supported: the range is >=2.7.3,<3.1)",
        "overlay: active",
    ]


def test_it_says_when_there_are_two_installs(nemo, built, tmp_path):
    other = lay_out_built(tmp_path / "other")
    shown = output(ACTIVATE + STATUS, nemo, built, other).splitlines()
    assert shown[2].startswith("overlay: not active: nemo-streaming-ssl must be installed once")
    assert f"{built}/nemo_overlay, {other}/nemo_overlay" in shown[2]


def test_it_says_when_nemo_carries_our_half_already(nemo, built):
    apply = f"import pathlib, nemo_overlay.in_tree as i; i.apply(pathlib.Path({str(nemo)!r}))\n"
    shown = output(ACTIVATE + apply + STATUS, nemo, built).splitlines()
    assert shown[2].startswith("overlay: not active: this NeMo has our half written into it")
    assert [line.split("  ")[1] for line in shown[3:]] == ["in NeMo"] * 3
