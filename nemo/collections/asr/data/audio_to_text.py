"""Buckets of tar files, for every data set that can be put into them."""

import copy
from collections.abc import Iterator
from typing import Any

from nemo.collections.asr.data.audio_to_text import BucketingDataset as NemoBucketingDataset
from nemo.collections.asr.data.audio_to_text import RandomizedChainDataset


class BucketingDataset(NemoBucketingDataset):
    """As NeMo's, but a batch is collated by the data set in the bucket; NeMo's knows those with transcripts alone."""

    def _collate_fn(self, batch: list[list[Any]]) -> Any:
        return self.wrapped_dataset._collate_fn(batch[0])


_chain = RandomizedChainDataset.__iter__


def _chain_from_the_start(self: RandomizedChainDataset) -> Iterator[Any]:
    """The buckets in an order that is the same in every epoch, as it is with worker processes: they begin anew."""
    once = copy.copy(self)
    once.rnd_gen = copy.deepcopy(self.rnd_gen)
    return _chain(once)


# In place: NeMo's constructor calls that of its base class by the name of this class.
RandomizedChainDataset.__iter__ = _chain_from_the_start
