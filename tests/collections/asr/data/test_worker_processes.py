"""Data loaders whose workers are new interpreters, as they are on macOS and from Python 3.14 on."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from small_corpus import KINDS, BatchesOfLoaders
from torch.utils.data import DataLoader

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

METHODS = [method for method in ("spawn", "forkserver") if method in multiprocessing.get_all_start_methods()]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def batches_by_method(loader, augmentor_config) -> dict[str, list[list]]:
    """The batches of every kind of data set, by how the worker that made them was started.

    All workers are started at once, one for each method, since each has to import NeMo first.
    """
    loaders = [loader(kind, batch_augmentor=augmentor_config(prob=1.0), shard_seed=0) for kind in KINDS]

    def batches(method: str) -> list[list]:
        generator = torch.Generator().manual_seed(0)
        return list(
            DataLoader(
                BatchesOfLoaders(loaders),
                batch_size=None,
                num_workers=1,
                multiprocessing_context=method,
                generator=generator,
            )
        )

    forked = {"fork": batches("fork")}
    with ThreadPoolExecutor() as threads:
        return forked | dict(zip(METHODS, threads.map(batches, METHODS), strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_workers_of_any_start_method_give_the_same_batches(batches_by_method, method, kind):
    ours, forked = (batches_by_method[name][KINDS.index(kind)] for name in (method, "fork"))
    assert len(ours) == len(forked) >= 3
    for batch, other in zip(ours, forked, strict=True):
        assert torch.equal(batch.audio, other.audio) and torch.equal(batch.noisy_audio, other.noisy_audio)
        assert torch.equal(batch.audio_len, other.audio_len)


def test_all_kinds_have_noise(batches_by_method):
    for batches in batches_by_method["fork"]:
        assert all(batch.noise.any() for batch in batches)


@pytest.mark.parametrize("method", METHODS)
def test_training_works_with_workers_of_any_start_method(tiny_config, training_data, fit, method):
    config = tiny_config({"masking.mask_prob": 0.15})
    config.train_ds = training_data("speech", num_workers=1)
    before = torch.multiprocessing.get_start_method()
    torch.multiprocessing.set_start_method(method, force=True)
    try:
        run = fit(EncDecDenoiseMaskedTokenPredModel(config), max_steps=2)
    finally:
        torch.multiprocessing.set_start_method(before, force=True)
    assert len(run.losses) == 2 and all(loss > 0 for loss in run.losses)
