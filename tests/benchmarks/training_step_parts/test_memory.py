"""The peak of the memory in use."""

import mmap
import time

import torch
from training_step_parts.memory import PeakMemory, memory


def test_memory_that_was_freed_before_the_end_is_part_of_the_peak():
    cpu = torch.device("cpu")
    before = memory(cpu)
    watch = PeakMemory(cpu)
    block = mmap.mmap(-1, 64 * 2**20)  # fresh memory, not what an allocator has kept of earlier tests
    block.write(b"1" * len(block))
    time.sleep(0.05)
    block.close()
    assert watch.stop() - before > 50e6
    assert not watch.thread.is_alive()
