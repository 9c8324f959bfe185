"""Memory for batches."""

import torch
from torch.utils.data import DataLoader, Dataset

from nemo.collections.asr.data.batch_memory import copied, zeros, zeros_like


class SharedOrNot(Dataset):
    """Whether what a worker takes is shared memory, before it is handed over; and whether it is zero."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> list[bool]:
        taken = [zeros(3, 40000), zeros_like(torch.ones(3, 40000)), zeros(3, 0)]
        copy = copied(torch.full((3, 40000), 7.0))
        right = [not any(tensor.any() for tensor in taken), bool((copy == 7).all())]
        return [tensor.is_shared() for tensor in (*taken, copy)] + right


def test_workers_take_memory_that_they_share():
    for answers in DataLoader(SharedOrNot(), batch_size=None, num_workers=1):
        assert answers == [True, True, False, True, True, True]


def test_elsewhere_memory_is_the_processs_own():
    for answers in DataLoader(SharedOrNot(), batch_size=None):
        assert answers == [False, False, False, False, True, True]


def test_shape_type_and_device_are_those_of_the_signal():
    for signal in (torch.rand(2, 3), torch.rand(2, 3).double(), torch.ones(4).long(), torch.rand(2, 0)):
        for made, expected in ((copied(signal), signal), (zeros_like(signal), torch.zeros_like(signal))):
            assert made.dtype == signal.dtype and torch.equal(made, expected)
            assert made.data_ptr() != signal.data_ptr() or not signal.numel()
    assert zeros_like(torch.empty(2, 3, device="meta")).device.type == "meta"
