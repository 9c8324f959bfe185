"""Buckets of data sets: how their batches are made, and in which order they come."""

import pickle
from collections.abc import Iterator

import pytest
from torch.utils.data import DataLoader

from nemo.collections.asr.data.audio_to_text import BucketingDataset, RandomizedChainDataset
from nemo.core.classes import IterableDataset


class Numbers(IterableDataset):
    """Ten numbers; a batch is their sum, and a name that shows who made it."""

    def __init__(self, first: int = 0):
        self.first = first
        self._dataset = range(first, first + 10)

    def __iter__(self) -> Iterator[int]:
        return iter(self._dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def _collate_fn(self, batch: list[int]) -> tuple[str, int]:
        return "summed", sum(batch)


def test_a_batch_is_collated_by_the_data_set_in_the_bucket():
    bucket = BucketingDataset(Numbers(), bucketing_batch_size=4)
    batches = list(DataLoader(bucket, batch_size=1, collate_fn=bucket.collate_fn))
    assert batches == [("summed", 0 + 1 + 2 + 3), ("summed", 4 + 5 + 6 + 7), ("summed", 8 + 9)]


def chain(seed: int) -> RandomizedChainDataset:
    return RandomizedChainDataset([Numbers(10 * index) for index in range(8)], rnd_seed=seed)


def test_every_epoch_has_the_buckets_in_the_same_random_order():
    buckets = chain(seed=1)
    first, second, third = (list(buckets) for _ in range(3))
    assert first == second == third != sorted(first)
    assert sorted(first) == list(range(80))
    assert list(pickle.loads(pickle.dumps(buckets))) == first  # what a spawned worker is sent


def test_an_epoch_that_was_left_early_changes_no_later_one():
    buckets = chain(seed=1)
    whole = list(chain(seed=1))
    assert next(iter(buckets)) == whole[0]
    assert list(buckets) == whole


@pytest.mark.parametrize("seed", [2, 3])
def test_another_seed_gives_another_order(seed):
    assert list(chain(seed)) != list(chain(seed=1))
