"""Files that cannot be used are named once, in all workers together."""

import multiprocessing

import pytest
import torch.multiprocessing

from nemo.collections.asr.data.unreadable_files import UnreadableFiles


def test_each_file_is_named_once_and_counted(warnings_of_nemo):
    files = UnreadableFiles()
    for name in ("a.wav", "b.wav", "a.wav", "a.wav"):
        files.report(name, "it is empty")
    assert warnings_of_nemo == [
        "a.wav cannot be used and is left out: it is empty (1 file left out so far)",
        "b.wav cannot be used and is left out: it is empty (2 files left out so far)",
    ]
    assert files.count == 2


def test_remarks_are_made_once_and_not_counted(warnings_of_nemo):
    files = UnreadableFiles("raise")
    for _ in range(3):
        files.mention("a.wav", "is silent")
    assert warnings_of_nemo == ["a.wav is silent"] and files.count == 0


def test_raise_stops_at_the_first_file():
    with pytest.raises(RuntimeError, match="a.wav cannot be used: it is empty; with unreadable_audio: skip"):
        UnreadableFiles("raise").report("a.wav", "it is empty")


def test_another_policy_is_refused():
    with pytest.raises(ValueError, match="unreadable_audio must be one of 'skip', 'raise'; got 'ignore'"):
        UnreadableFiles("ignore")


def test_what_one_worker_has_named_no_other_names_again(warnings_of_nemo):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    files = UnreadableFiles().share()
    worker = torch.multiprocessing.get_context("fork").Process(target=files.report, args=("a.wav", "it is empty"))
    worker.start()
    worker.join()
    files.report("a.wav", "it is empty")
    files.report("b.wav", "it is empty")
    assert worker.exitcode == 0 and files.count == 2
    assert [warning[:5] for warning in warnings_of_nemo] == ["b.wav"]
