"""The commands `python -m nemo_overlay apply` and `diff`: what they print, write and refuse."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from overlay_trees import CUT_OFF, NEMO, run, snapshot, write_files

from nemo_overlay import in_tree
from nemo_overlay.__main__ import main

MASKS = "nemo/collections/asr/masks.py"
CONTEXTS = "nemo/collections/asr/contexts.py"
MODELS = "nemo/collections/asr/models.py"


def test_apply_changes_the_files_it_prints_and_no_other(nemo, our_half, capsys):
    before = snapshot(nemo)
    assert main(["apply", str(nemo)]) == 0
    after = snapshot(nemo)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[:3] == [["new", CONTEXTS], ["extends", MASKS], ["extends", MODELS]]
    assert {name for name in after if after[name] != before.get(name)} == {CONTEXTS, MASKS, MODELS}
    assert before.keys() == after.keys() - {CONTEXTS}


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


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without telling it")
def test_a_terminated_apply_puts_nemo_back_before_it_goes(nemo, built):
    before = snapshot(nemo)
    done = run(CUT_OFF.format(then="os.kill(os.getpid(), signal.SIGTERM)", nemo=str(nemo)), built, flags=["-S"])
    assert done.returncode == 128 + signal.SIGTERM
    assert snapshot(nemo) == before
