"""Evaluation data that are equal in every epoch and run, and training's random state beside them."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from nemo.collections.asr.parts.utils.repeatable_data import RepeatableLoader, make_repeatable


class Noise(Dataset):
    """Samples with each of the three global random states."""

    fails = False

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple:
        if self.fails and index == 3:
            raise OSError("no such file")
        return random.random(), np.random.rand(), torch.rand(())


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def states() -> tuple:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def values_of(loader: DataLoader) -> torch.Tensor:
    return torch.stack([torch.stack(batch) for batch in loader])


@pytest.mark.parametrize("workers", [0, 2])
def test_noise_is_equal_in_every_epoch_and_the_random_states_stay(workers):
    loader = RepeatableLoader(Noise(), batch_size=2, num_workers=workers, generator=torch.Generator().manual_seed(3))
    seed_all(1)
    before = states()
    first = values_of(loader)
    assert states() == before
    seed_all(2)
    next(iter(loader))  # an epoch that is left early changes nothing
    assert torch.equal(values_of(loader), first)
    assert len(first.unique()) == first.numel()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_random_states_stay_on_an_error_too(workers):
    data = Noise()
    data.fails = True
    loader = RepeatableLoader(data, batch_size=2, num_workers=workers, generator=torch.Generator().manual_seed(3))
    seed_all(1)
    before = states()
    with pytest.raises(OSError, match="no such file"):
        values_of(loader)
    assert states() == before


def test_training_between_two_batches_is_not_disturbed():
    seed_all(1)
    expected = [random.random() for _ in range(3)]
    seed_all(1)
    loader = make_repeatable(DataLoader(Noise(), batch_size=2), seed=5)
    assert [random.random() for _ in loader] == expected


def test_only_torchs_own_loaders_without_a_generator_are_changed():
    class Other(DataLoader):
        pass

    generator = torch.Generator()
    plain, given, other = DataLoader(Noise()), DataLoader(Noise(), generator=generator), Other(Noise())
    loaders = [plain, given, other]
    assert make_repeatable(loaders, seed=1) is loaders
    assert [type(loader) for loader in loaders] == [RepeatableLoader, DataLoader, Other]
    assert given.generator is generator and other.generator is None
    assert torch.equal(values_of(plain), values_of(make_repeatable(DataLoader(Noise()), seed=1)))
    assert not torch.equal(values_of(plain), values_of(make_repeatable(DataLoader(Noise()), seed=2)))
