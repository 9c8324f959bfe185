"""Uniform random numbers from a generator on any device."""

import torch
from torch import Tensor

__all__ = ["uniform", "whole_numbers_below"]


def uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Samples float32 numbers in [0, 1) on the generator's device and returns them on `device`.

    A CPU generator therefore gives the same numbers for every `device`. Without a generator, the numbers come from
    torch's own generator of `device`.
    """
    if generator is None:
        return torch.rand(shape, dtype=torch.float32, device=device)
    return torch.rand(shape, dtype=torch.float32, device=generator.device, generator=generator).to(device)


def whole_numbers_below(count: Tensor, numbers: Tensor) -> Tensor:
    """Turns `numbers`, float32 in [0, 1), into whole numbers in `[0, count)`, int64.

    A float32 below 1 is at most `1 - 2**-24`, so its product with a count below `2**24` never rounds up to the count.
    """
    return (numbers * count).long()
