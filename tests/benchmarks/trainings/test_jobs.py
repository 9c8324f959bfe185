"""The jobs: each training in a process of its own."""

import pytest
from trainings import results
from trainings.jobs import run_all

JOB = """
import os, sys
assert sys.argv[1] == "--train" and sys.argv[2] != "literal"
names = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"
print(*sys.argv[2:], *(os.environ[name] for name in names))
"""


def test_a_training_runs_in_a_process_of_its_own_that_waits_passively(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    (tmp_path / "job.py").write_text(JOB)
    results.write_result(tmp_path, "tail", 0, {})  # finished already
    after = []
    run_all([tmp_path / "job.py"], [("tail", 0), ("shift +1", 1)], tmp_path, 2, lambda: after.append(1))
    log = (results.run_folder(tmp_path, "shift +1", 1) / "log").read_text()
    assert log == "shift +1 1 passive 0 1\n" and after == [1]
    with pytest.raises(RuntimeError, match="the training of literal, seed 7, failed; see .*literal-7/log"):
        run_all([tmp_path / "job.py"], [("literal", 7)], tmp_path, 1, lambda: None)
