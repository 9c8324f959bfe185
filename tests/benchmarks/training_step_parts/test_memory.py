"""The peak of the memory in use."""

import time

import torch
from training_step_parts.memory import PeakMemory, memory


def test_memory_that_was_freed_before_the_end_is_part_of_the_peak():
    cpu = torch.device("cpu")
    before = memory(cpu)
    watch = PeakMemory(cpu)
    block = torch.ones(64 * 2**20 // 4)
    time.sleep(0.05)
    del block
    assert watch.stop() - before > 50e6
    assert not watch.thread.is_alive()
