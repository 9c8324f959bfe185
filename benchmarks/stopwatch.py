"""How long a call takes."""

import time
from collections.abc import Callable

import torch


def seconds_of(call: Callable, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start
