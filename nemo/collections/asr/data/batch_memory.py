"""Memory for the tensors of a batch, of a kind that costs little to fill and to pass on."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

__all__ = ["copied", "zeros", "zeros_like"]


def zeros(*shape: int) -> Tensor:
    """A float32 tensor of zeros, on the CPU.

    A worker of a data loader takes memory that it shares with the process that trains, so that a batch is not copied
    when it is handed over. Anywhere else it is NumPy's, which asks the system for huge pages where an array is large;
    torch does not, and writing to fresh memory waits for the system once for each page.
    """
    size = math.prod(shape)
    if get_worker_info() is None or size == 0:
        return torch.from_numpy(np.zeros(shape, np.float32))
    # torch's own `default_collate` takes its memory in this way. What is fresh from the system is zero.
    return torch.empty(0).new(torch.empty(0)._typed_storage()._new_shared(size)).resize_(shape)


def zeros_like(signal: Tensor) -> Tensor:
    """Zeros of the same shape, type and device."""
    return zeros(*signal.shape) if _is_plain(signal) else torch.zeros_like(signal)


def copied(signal: Tensor) -> Tensor:
    """A copy."""
    return zeros(*signal.shape).copy_(signal) if _is_plain(signal) else signal.clone()


def _is_plain(signal: Tensor) -> bool:
    return signal.device.type == "cpu" and signal.dtype == torch.float32
