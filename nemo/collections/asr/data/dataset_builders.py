"""Options of a config, passed to data sets that NeMo's functions build."""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import nullcontext
from typing import Any

from omegaconf import DictConfig, open_dict

from nemo.collections.asr.data.speech_options import SpeechOptions, check_data_config

__all__ = ["changed", "config_for_lhotse", "with_options"]


def with_options(build: Callable) -> Callable:
    """NeMo's function that builds data sets from a config, with noise read once for all, and options passed on."""

    @functools.wraps(build)
    def build_with_options(
        config: MutableMapping, *args: Any, batch_augmentor: Callable | None = None, **kwargs: Any
    ) -> Any:
        check_data_config(config)
        options = SpeechOptions.from_config(config, batch_augmentor)
        dataset = build(changed(config, noise_manifest=None), *args, **kwargs)
        for part in _parts(dataset):
            part.use_options(options)
        return dataset

    return build_with_options


def _parts(dataset: Any) -> Iterator[Any]:
    """The data sets with options that a chain, a mixture or a bucket is made of."""
    if hasattr(dataset, "use_options"):
        yield dataset
    for part in getattr(dataset, "datasets", None) or [getattr(dataset, "wrapped_dataset", None)]:
        if part is not None:
            yield from _parts(part)


def changed(config: MutableMapping, without: Iterable[str] = (), **values: Any) -> MutableMapping:
    """A copy of a config with other values, or without some keys."""
    config = copy.deepcopy(config)
    with open_dict(config) if isinstance(config, DictConfig) else nullcontext():
        for key in without:
            del config[key]
        for key, value in values.items():
            config[key] = value
    return config


def config_for_lhotse(config: MutableMapping) -> MutableMapping:
    """A config as Lhotse is to have it.

    Averaging of channels is left to our data set, since Lhotse knows channels by number only. Lhotse shuffles tar
    files in any case; where the config asks for no shuffling, they get an order that the next run has again.
    """
    changes: dict[str, Any] = {}
    if config.get("channel_selector") == "average":
        changes["channel_selector"] = None
    if not config.get("shuffle") and config.get("shard_seed") is None:
        changes["shard_seed"] = 0
    return changed(config, **changes)
