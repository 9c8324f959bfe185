"""The environment of CPU training: a passive wait, unless the user has decided otherwise."""

import os

import pytest
from nest_tools.cpu_training import KEPT_MEMORY, PASSIVE_WAIT, cpu_training_environment, wait_passively


@pytest.fixture
def bare(monkeypatch):
    for name in (*PASSIVE_WAIT, *KEPT_MEMORY):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_threads_wait_passively_and_memory_is_kept(bare):
    bare.setenv("HOME_OF_TEST", "kept")
    environment = cpu_training_environment(OMP_NUM_THREADS="1")
    assert environment["OMP_WAIT_POLICY"] == "passive" and environment["GOMP_SPINCOUNT"] == "0"
    assert environment.items() >= KEPT_MEMORY.items()
    assert environment["HOME_OF_TEST"] == "kept" and environment["OMP_NUM_THREADS"] == "1"


def test_what_the_user_has_set_stays(bare):
    bare.setenv("OMP_WAIT_POLICY", "active")
    bare.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    environment = cpu_training_environment()
    assert environment["OMP_WAIT_POLICY"] == "active" and "GOMP_SPINCOUNT" not in environment
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "7"
    bare.setenv("OMP_WAIT_POLICY", "PASSIVE")
    bare.setenv("GOMP_SPINCOUNT", "100")
    assert cpu_training_environment()["GOMP_SPINCOUNT"] == "100"


def test_this_process_can_wait_passively_too(bare):
    bare.setenv("GOMP_SPINCOUNT", "100")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "passive" and os.environ["GOMP_SPINCOUNT"] == "100"
    bare.delenv("OMP_WAIT_POLICY")
