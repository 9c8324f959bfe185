"""Evaluation data that are equal in every epoch and run, without changing the random state of training."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lhotse.dataset.iterable_dataset import IterableDatasetWrapper
from torch.utils.data import DataLoader

__all__ = ["RepeatableLoader", "make_repeatable"]


class RepeatableLoader(DataLoader):
    """A data loader whose batches are the same in every epoch and run, noise and augmentation included.

    Datasets sample noise with the global random states of Python, NumPy and torch: those of the worker processes, or,
    without workers, those that training uses too. This loader makes each batch with random states of its own, which
    start anew with every iteration, and restores the global ones before it returns the batch, on an error too.

    The seed is that of `generator`, which must be given. Workers begin anew in every epoch. The noise depends on the
    number of workers.
    """

    generator: torch.Generator

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch declares the iterator of one of its classes
        seed = self.generator.initial_seed()
        self.generator.manual_seed(seed)
        state = _RandomState()
        with state.in_force():
            _seed_all(seed)
            with _lhotse_from_the_start(self):
                batches = super().__iter__()
        while True:
            with state.in_force():
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch


def make_repeatable(loaders: Any, seed: int) -> Any:
    """Turns data loaders into `RepeatableLoader`s, in place.

    Args:
        loaders: a loader, or a list of them. Loaders of another class than torch's own, and those that have a
            generator, are not changed.
        seed: of their random states.

    Returns:
        `loaders`.
    """
    for loader in loaders if isinstance(loaders, (list, tuple)) else [loaders]:
        if type(loader) is DataLoader and loader.generator is None:
            # A new loader would need every argument that this one was built with; the class adds no state.
            loader.__class__ = RepeatableLoader
            vars(loader)["persistent_workers"] = False  # workers that outlive an epoch keep their random states
            loader.generator = torch.Generator().manual_seed(seed)
    return loaders


@contextmanager
def _lhotse_from_the_start(loader: DataLoader) -> Iterator[None]:
    """Within the block, a sampler of Lhotse's that lies in the data set is a copy, so that it never moves on.

    It counts epochs, and shuffles differently in each. In worker processes it is a copy anyway.
    """
    data = loader.dataset
    if isinstance(data, IterableDatasetWrapper):
        once = copy.copy(data)
        once.sampler = copy.deepcopy(data.sampler)
        vars(loader)["dataset"] = once
    try:
        yield
    finally:
        vars(loader)["dataset"] = data


class _RandomState:
    """The global random states of Python, NumPy and torch (CPU), as they were when this was made or last left."""

    def __init__(self) -> None:
        self._keep()

    def _keep(self) -> None:
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Within the block these are the global states; afterwards the former ones are restored."""
        outside = _RandomState()
        self._restore()
        try:
            yield
        finally:
            self._keep()
            outside._restore()

    def _restore(self) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
