"""The memory that a process has in use."""

import resource
import threading
import time
from pathlib import Path

import torch


def memory(device: torch.device) -> int:
    """Bytes in use: of the process on a CPU, of torch's allocator on a GPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    resident = Path("/proc/self/statm").read_text().split()[1]
    return int(resident) * resource.getpagesize()


class PeakMemory:
    """The most memory in use between construction and `stop`; on a CPU looked at every millisecond."""

    def __init__(self, device: torch.device):
        self.device = device
        self.peak = memory(device)
        self.running = device.type != "cuda"
        if self.running:
            self.thread = threading.Thread(target=self._look, daemon=True)
            self.thread.start()
        else:
            torch.cuda.reset_peak_memory_stats(device)

    def _look(self) -> None:
        while self.running:
            self.peak = max(self.peak, memory(self.device))
            time.sleep(0.001)

    def stop(self) -> int:
        """The peak in bytes."""
        if not self.running:
            return torch.cuda.max_memory_allocated(self.device)
        self.running = False
        self.thread.join()
        return self.peak
