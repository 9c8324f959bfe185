"""Mixtures of data sets."""

import numpy as np
import pytest
import torch

from nemo.collections.common.data.dataset import ConcatDataset


class Numbers(torch.utils.data.Dataset):
    def __init__(self, first: int):
        self.first = first

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        return self.first + int(index)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_every_epoch_has_all_of_a_ranks_data(world_size):
    for rank in range(world_size):
        mixture = ConcatDataset(
            [Numbers(0), Numbers(100)], sampling_technique="round-robin", global_rank=rank, world_size=world_size
        )
        first, second, third = (sorted(mixture) for _ in range(3))
        assert first == second == third and len(set(first)) == len(mixture)


@pytest.mark.parametrize("technique", ["temperature", "random"])
def test_the_global_random_state_gives_a_mixture_again(technique):
    def sampled(seed: int) -> list[int]:
        np.random.seed(seed)
        return list(ConcatDataset([Numbers(0), Numbers(100)], sampling_technique=technique))

    assert sampled(1) == sampled(1) != sampled(2)


def test_a_seed_of_the_mixture_chooses_its_data_sets_as_before():
    mixture = ConcatDataset([Numbers(0), Numbers(100)], sampling_technique="random", seed=7)
    chosen = [number >= 100 for number in mixture]
    expected = np.random.RandomState(7).choice(2, size=len(chosen), p=[0.5, 0.5]).astype(bool)
    assert len(chosen) == 20 and [number >= 100 for number in mixture] == chosen
    assert np.mean(chosen == expected) > 0.8
