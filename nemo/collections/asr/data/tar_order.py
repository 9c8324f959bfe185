"""The order of tar files, from a random state that can be repeated."""

import random

from webdataset import DataPipeline
from webdataset.filters import _shuffle

__all__ = ["shuffle_by_global_state"]


def shuffle_by_global_state(pipeline: DataPipeline) -> None:
    """Makes a pipeline shuffle by Python's global random state, which a data loader seeds in each of its workers.

    By itself, WebDataset takes the time and the process's number as a seed.
    """
    for stage in pipeline.pipeline:
        if getattr(stage, "f", None) is _shuffle:
            stage.kw["rng"] = _GlobalRandom()


class _GlobalRandom:
    """Python's global random state, as an object that can be pickled."""

    def randint(self, low: int, high: int) -> int:
        return random.randint(low, high)
