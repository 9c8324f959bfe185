"""Random numbers are those of the generator, and whole numbers stay below their count."""

import pytest
import torch

from nemo.collections.asr.modules.ssl_modules.random_numbers import uniform, whole_numbers_below


def test_a_generator_decides_the_numbers_and_torch_s_own_state_is_kept():
    before = torch.get_rng_state()
    first, second = (uniform((3, 5), torch.device("cpu"), torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second) and first.dtype == torch.float32
    assert torch.equal(before, torch.get_rng_state())


def test_without_a_generator_torch_s_seed_decides():
    torch.manual_seed(3)
    first = uniform((4,), torch.device("cpu"))
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cpu_generator_gives_a_gpu_the_same_numbers():
    here, there = (uniform((9,), torch.device(d), torch.Generator().manual_seed(1)) for d in ("cpu", "cuda"))
    assert there.device.type == "cuda" and torch.equal(here, there.cpu())


def test_the_largest_number_below_1_never_reaches_the_count():
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    count = torch.cat([torch.arange(1, 5000), torch.tensor([2**20 + 1, 2**24 - 1])])
    numbers = whole_numbers_below(count, largest)
    assert numbers.dtype == torch.int64 and (numbers == count - 1).all()
    assert not whole_numbers_below(count, torch.tensor(0.0)).any()
