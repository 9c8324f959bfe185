"""The environment of processes that train on a CPU. Nothing here imports torch, which reads it when it is imported."""

import os

PASSIVE_WAIT = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""Threads that wait for each other sleep. By default they keep the CPU busy, so that beside other work each waits for
threads that are not running."""

KEPT_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**32))
"""glibc keeps freed memory for the next step, in place of fetching it from the system anew."""


def cpu_training_environment(**others: str) -> dict[str, str]:
    """The environment of this process, and what makes training on a CPU faster where the user has not set it.

    Args:
        others: further variables, which are set in any case.
    """
    return {**_passive_wait(), **KEPT_MEMORY, **os.environ, **others}


def wait_passively() -> None:
    """Lets the threads of this process wait passively, if torch has not been imported yet."""
    for name, value in _passive_wait().items():
        os.environ.setdefault(name, value)


def _passive_wait() -> dict[str, str]:
    """What the user has not decided otherwise."""
    return PASSIVE_WAIT if os.environ.get("OMP_WAIT_POLICY", "passive").lower() == "passive" else {}
