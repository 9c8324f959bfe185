"""Our half written into a NeMo source tree, and the patch that says the same."""

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from overlay_trees import (
    ACTIVATE,
    NEMO,
    OURS,
    SHOW_MASK,
    lay_out_built,
    output,
    run,
    snapshot,
    write_files,
)

from nemo_overlay import IN_TREE_MARK, in_tree
from nemo_overlay.__main__ import main

MASKS = "nemo/collections/asr/masks.py"
CONTEXTS = "nemo/collections/asr/contexts.py"
MODELS = "nemo/collections/asr/models.py"


@pytest.fixture
def our_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in for our half, which the commands then write and compare."""
    tree = write_files(tmp_path / "ours", OURS)
    monkeypatch.setattr(in_tree, "find_tree", lambda: str(tree))
    return tree


def test_an_extended_file_is_the_text_of_nemo_followed_by_ours(nemo, our_half):
    before = snapshot(nemo)
    in_tree.apply(nemo)
    after = snapshot(nemo)
    ours = (our_half / "collections/asr/masks.py").read_bytes()
    assert after[MASKS].startswith(before[MASKS] + b"\n\n" + IN_TREE_MARK.encode())
    assert after[MASKS].endswith(b"\n" + ours)


def test_apply_changes_the_files_it_prints_and_no_other(nemo, our_half, capsys):
    before = snapshot(nemo)
    assert main(["apply", str(nemo)]) == 0
    after = snapshot(nemo)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[:3] == [["new", CONTEXTS], ["extends", MASKS], ["extends", MODELS]]
    assert {name for name in after if after[name] != before.get(name)} == {CONTEXTS, MASKS, MODELS}
    assert before.keys() == after.keys() - {CONTEXTS}


@pytest.mark.parametrize("overlay", ["0", "1"])
def test_a_patched_nemo_has_our_half_once_with_or_without_the_overlay(nemo, our_half, built, overlay):
    in_tree.apply(nemo)
    code = "\nprint(Mask.__mro__[1].kind, Mask.context, nemo_overlay.laid_over)"
    assert output(ACTIVATE + SHOW_MASK + code, nemo, built, overlay=overlay) == "ours\nNeMo's [160, 0] {}"


def test_a_patched_nemo_needs_nothing_of_ours_on_the_path(nemo, our_half):
    in_tree.apply(nemo)
    assert output(SHOW_MASK, nemo) == "ours"


def test_a_patched_nemo_that_was_imported_is_not_too_late_for_install(nemo, our_half, built):
    in_tree.apply(nemo)
    assert output(SHOW_MASK + "\n" + ACTIVATE + "print(nemo_overlay.is_active())", nemo, built) == "ours\nTrue"


def test_check_and_diff_change_nothing(nemo, our_half, capfdbinary):
    before = snapshot(nemo)
    assert main(["apply", str(nemo), "--check"]) == 0
    assert b"would be changed" in capfdbinary.readouterr().out
    assert main(["diff", str(nemo)]) == 0
    assert b"+++ b/nemo/collections/asr/masks.py" in capfdbinary.readouterr().out
    assert snapshot(nemo) == before


@pytest.mark.parametrize("ending", ["\n", "", "\n\n\n", "\r\n", "\f\n"])
def test_the_printed_diff_makes_the_same_tree_as_apply(nemo, our_half, ending, capfdbinary):
    if shutil.which("git") is None:
        pytest.skip("git, which applies the patch, is not installed")
    text = "first = 'é'\nlast = 2"
    if ending == "\r\n":
        text = text.replace("\n", "\r\n")
    (nemo / MASKS).write_bytes((text + ending).encode())
    (our_half / "collections/asr/masks.py").write_text("ours = 3\n")
    patched = shutil.copytree(nemo, nemo.with_name("patched"))
    assert main(["diff", str(nemo)]) == 0
    patch = capfdbinary.readouterr().out
    command = ["git", "apply", "--whitespace=nowarn", "-p1", "-"]
    # Outside of any repository, so that git takes the paths as they are.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(patched.parent)}
    subprocess.run(command, input=patch, cwd=patched, env=environment, check=True)
    in_tree.apply(nemo)
    assert snapshot(patched) == snapshot(nemo)


def test_line_ends_and_permissions_are_those_of_nemo(nemo, our_half):
    (nemo / MASKS).write_bytes((nemo / MASKS).read_bytes().replace(b"\n", b"\r\n"))
    (nemo / MASKS).chmod(0o640)
    in_tree.apply(nemo)
    text = (nemo / MASKS).read_bytes()
    assert text.count(b"\n") == text.count(b"\r\n") > 20
    assert stat.S_IMODE((nemo / MASKS).stat().st_mode) == 0o640


def _empty(root: Path) -> None:
    shutil.rmtree(root / "nemo")


def _namesake(root: Path) -> None:
    write_files(root, {"nemo/package_info.py": "__package_name__ = 'another'\nMAJOR, MINOR, PATCH = 3, 0, 0\n"})


def _unreadable(root: Path) -> None:
    write_files(root, {"nemo/package_info.py": "<<<<<<< a merge\n"})


def _without_speech_recognition(root: Path) -> None:
    shutil.rmtree(root / "nemo/collections/asr")


def _too_new(root: Path) -> None:
    write_files(root, {"nemo/package_info.py": NEMO["nemo/package_info.py"].replace("MINOR = 0", "MINOR = 1")})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_empty, "must be a NeMo source tree"),
        (_namesake, "must be a NeMo source tree"),
        (_unreadable, "must be a NeMo source tree"),
        (_without_speech_recognition, "must be a NeMo source tree"),
        (_too_new, "DIR must be a NeMo >=2.7.3,<3.1; got"),
        (in_tree.apply, "which has it in nemo/collections/asr/"),
    ],
)
@pytest.mark.parametrize("command", [["apply"], ["apply", "--check"], ["diff"]])
def test_a_tree_that_cannot_take_our_half_is_refused_untouched(nemo, our_half, spoil, reason, command, capsys):
    spoil(nemo)
    before = snapshot(nemo)
    assert main([command[0], str(nemo), *command[1:]]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and reason in shown.err and shown.out == ""
    assert snapshot(nemo) == before


def test_the_folder_nemo_itself_is_refused_with_what_to_give_instead(nemo, our_half):
    with pytest.raises(in_tree.NotApplicable, match="give the folder that holds the folder nemo"):
        in_tree.plan(nemo / "nemo")


def test_a_folder_that_does_not_exist_is_refused_and_not_made(tmp_path, our_half):
    with pytest.raises(in_tree.NotApplicable, match="must be a NeMo source tree"):
        in_tree.apply(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_half_that_is_no_python_after_that_of_nemo_is_refused(nemo, our_half):
    (our_half / "collections/asr/masks.py").write_text("from __future__ import annotations\n")
    with pytest.raises(in_tree.NotApplicable, match="nemo/collections/asr/masks.py must be NeMo's own file; got one"):
        in_tree.plan(nemo)


# An apply that is cut off


def _replace_until(call: int, then):
    """os.replace, whose call number `call` does `then` instead."""
    calls = iter(range(call + 1))
    real = os.replace

    def replace(source, target):
        return then() if next(calls, None) == call else real(source, target)

    return replace


def _raise(exception):
    def then():
        raise exception

    return then


@pytest.mark.parametrize("call", [0, 1, 2])
@pytest.mark.parametrize("exception", [OSError("no space left"), KeyboardInterrupt()])
def test_an_interrupted_apply_leaves_the_tree_as_it_was(nemo, our_half, monkeypatch, call, exception):
    write_files(our_half, {"collections/asr/live/__init__.py": ""})
    before = snapshot(nemo)
    folders = sorted(nemo.rglob("*/"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _replace_until(call, _raise(exception)))
        with pytest.raises(type(exception)):
            in_tree.apply(nemo)
    assert snapshot(nemo) == before
    assert sorted(nemo.rglob("*/")) == folders


def test_an_apply_that_cannot_stage_leaves_the_tree_as_it_was(nemo, our_half, monkeypatch):
    before = snapshot(nemo)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copymode", lambda *_: _raise(PermissionError("read-only"))())
        assert main(["apply", str(nemo)]) == 1
    assert snapshot(nemo) == before


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


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without telling it")
def test_a_terminated_apply_puts_nemo_back_before_it_goes(nemo, built):
    before = snapshot(nemo)
    done = run(CUT_OFF.format(then="os.kill(os.getpid(), signal.SIGTERM)", nemo=str(nemo)), built, flags=["-S"])
    assert done.returncode == 128 + signal.SIGTERM
    assert snapshot(nemo) == before


def test_a_killed_apply_is_undone_by_the_next_one(nemo, our_half, tmp_path, capsys):
    before = snapshot(nemo)
    built = lay_out_built(tmp_path / "killed")
    assert run(CUT_OFF.format(then="os._exit(9)", nemo=str(nemo)), built, flags=["-S"]).returncode == 9
    assert (nemo / CONTEXTS).exists() and snapshot(nemo)[MASKS] != before[MASKS]
    assert main(["apply", str(nemo), "--check"]) == 1
    assert "an earlier apply" in capsys.readouterr().err
    in_tree.apply(nemo)
    clean = write_files(tmp_path / "clean", NEMO)
    in_tree.apply(clean)
    assert snapshot(nemo) == snapshot(clean)


def test_a_killed_apply_is_undone_even_when_the_next_one_is_refused(nemo, our_half, tmp_path):
    before = snapshot(nemo)
    built = lay_out_built(tmp_path / "killed")
    run(CUT_OFF.format(then="os._exit(9)", nemo=str(nemo)), built, flags=["-S"])
    (our_half / "collections/asr/masks.py").write_text("from __future__ import annotations\n")
    with pytest.raises(in_tree.NotApplicable, match="must be NeMo's own file"):
        in_tree.apply(nemo)
    assert snapshot(nemo) == before
