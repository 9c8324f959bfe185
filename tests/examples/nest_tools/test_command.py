"""What commands share: contexts, exit codes, and files that are written whole or not at all."""

import sys

import pytest
from nest_tools import command
from nest_tools.utterances import Skipped


@pytest.mark.parametrize(
    ("text", "expected"),
    [("low", "low"), ("8,0", [8, 0]), ("-1,0", [-1, 0]), ("[8, 0]", [8, 0]), ("8,4,2", [8, 4, 2]), ("v2", "v2")],
)
def test_a_context_is_a_name_or_numbers(text, expected):
    assert command.parse_context(text) == expected


def exit_code_of(main, capsys) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        command.run(main)
    return ended.value.code, capsys.readouterr().err


def test_what_was_left_out_is_named_and_decides_the_exit_code(capsys):
    assert exit_code_of(lambda: command.report_skipped([]), capsys) == (0, "")
    code, printed = exit_code_of(lambda: command.report_skipped([Skipped("a.wav", "the file is empty")]), capsys)
    assert code == 1 and printed == "left out: a.wav: the file is empty\n"


@pytest.mark.parametrize("error", [ValueError, TypeError, FileNotFoundError, PermissionError, ImportError])
def test_an_error_that_the_user_can_mend_is_one_line(error, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/script.py", "--option"])

    def fail() -> int:
        raise error("--option must be 1; got 2")

    assert exit_code_of(fail, capsys)[0] == "script.py: --option must be 1; got 2"


def test_other_errors_show_where_they_come_from():
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command.run(fail)


def test_a_file_appears_when_it_is_whole(tmp_path):
    file = tmp_path / "result.npz"
    with command.written_whole(file) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path and not file.exists()
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_leaves_the_old_file_and_nothing_else(error, tmp_path):
    file = tmp_path / "result.txt"
    command.write_text(file, "old")
    with pytest.raises(error), command.written_whole(file) as temporary:
        temporary.write_text("half")
        raise error
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
