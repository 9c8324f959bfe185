"""Mixtures of data sets that begin anew in every epoch, and can be repeated from a seed."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from nemo.collections.common.data.dataset import ConcatDataset as NemoConcatDataset


class ConcatDataset(NemoConcatDataset):
    """As NeMo's, but each iteration begins with the whole data, and what is random follows the global random state."""

    def __iter__(self) -> Iterator[Any]:
        # NeMo's iteration replaces the data sets by their parts for this rank and worker, once more in every epoch.
        once = copy.copy(self)
        once.datasets, once.iterables = list(self.datasets), list(self.iterables)
        if once.sampling_kwargs.get("seed", 0) is None:
            once.sampling_kwargs = {**self.sampling_kwargs, "seed": np.random.randint(2**31)}
        return NemoConcatDataset.__iter__(once)
