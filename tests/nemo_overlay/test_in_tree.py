"""Our half written into a NeMo source tree, as a whole or not at all."""

import os
import shutil
import stat

import pytest
from overlay_trees import (
    ACTIVATE,
    CUT_OFF,
    NEMO,
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


def test_an_extended_file_is_the_text_of_nemo_followed_by_ours(nemo, our_half):
    before = snapshot(nemo)
    in_tree.apply(nemo)
    after = snapshot(nemo)
    ours = (our_half / "collections/asr/masks.py").read_bytes()
    assert after[MASKS].startswith(before[MASKS] + b"\n\n" + IN_TREE_MARK.encode())
    assert after[MASKS].endswith(b"\n" + ours)


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


def test_line_ends_and_permissions_are_those_of_nemo(nemo, our_half):
    (nemo / MASKS).write_bytes((nemo / MASKS).read_bytes().replace(b"\n", b"\r\n"))
    (nemo / MASKS).chmod(0o640)
    in_tree.apply(nemo)
    text = (nemo / MASKS).read_bytes()
    assert text.count(b"\n") == text.count(b"\r\n") > 20
    assert stat.S_IMODE((nemo / MASKS).stat().st_mode) == 0o640


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
