"""Memory for the tensors of a batch."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["copied", "empty", "zeros_like"]

# NumPy asks the system for huge pages where an array is large, and torch does not. Whoever writes to fresh memory waits
# for the system once for each of its pages, which can take longer than what is written.


def empty(*shape: int) -> Tensor:
    """A float32 tensor of any content, on the CPU."""
    return torch.from_numpy(np.empty(shape, np.float32))


def zeros_like(signal: Tensor) -> Tensor:
    """Zeros of the same shape, type and device."""
    return torch.from_numpy(np.zeros(signal.shape, np.float32)) if _is_plain(signal) else torch.zeros_like(signal)


def copied(signal: Tensor) -> Tensor:
    """A copy."""
    return empty(*signal.shape).copy_(signal) if _is_plain(signal) else signal.clone()


def _is_plain(signal: Tensor) -> bool:
    return signal.device.type == "cpu" and signal.dtype == torch.float32
