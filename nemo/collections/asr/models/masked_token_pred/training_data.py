"""Training data that give at least one batch, or an error that says why they do not."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

__all__ = [
    "SomeBatchRequired",
    "check_has_utterances",
    "drops_everything",
    "names_data",
    "utterances_required",
    "with_listed_manifests",
]


def names_data(config: Mapping[str, Any]) -> bool:
    """Whether a config of data names any: `manifest_filepath: null` names none, except to Lhotse."""
    absent = config.get("manifest_filepath", "another key") is None
    return not absent or bool(config.get("use_lhotse"))


def with_listed_manifests(name: str, config: DictConfig | Mapping[str, Any]) -> DictConfig | Mapping[str, Any]:
    """The config as NeMo's data sets need it: `is_concat` takes lists of manifests, of one too.

    Args:
        name: the key of the config, such as `model.train_ds`.
        config: its value.

    Raises:
        ValueError: `is_tarred` without tar files.
    """
    is_tarred, manifests = config.get("is_tarred"), config.get("manifest_filepath")
    if is_tarred and config.get("tarred_audio_filepaths") is None:
        raise ValueError(f"{name}.tarred_audio_filepaths must name tar files where is_tarred is true; got null")
    if config.get("is_concat") and not is_tarred and isinstance(manifests, str):
        listed: dict[str, Any] = {str(key): value for key, value in config.items()}
        return OmegaConf.create({**listed, "manifest_filepath": [manifests]})
    return config


def drops_everything(loader: Any, ranks: int) -> bool:
    """Whether `drop_last` leaves no batch, since each of the ranks has fewer utterances than a batch."""
    if not isinstance(loader, DataLoader) or not loader.drop_last or loader.batch_size is None:
        return False
    return 0 < _utterances(loader, default=loader.batch_size * ranks) <= (loader.batch_size - 1) * ranks


@contextmanager
def utterances_required(name: str, config: Mapping[str, Any]) -> Iterator[None]:
    """Within the block, torch's complaint about an empty data set becomes the one of `check_has_utterances`."""
    try:
        yield
    except ValueError as error:
        if "num_samples=0" not in str(error):
            raise
        raise _no_utterance(name, config) from error


def check_has_utterances(name: str, config: Mapping[str, Any], loader: Any) -> None:
    """Refuses a data set without utterances.

    Args:
        name: the key of the config that describes it, such as `model.validation_ds`.
        config: its value.
        loader: what NeMo made of it.

    Raises:
        ValueError: naming what decides on the utterances.
    """
    if isinstance(loader, DataLoader) and _utterances(loader, default=1) == 0:
        raise _no_utterance(name, config)


def _no_utterance(name: str, config: Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"{name} must have at least one utterance; got none from manifest_filepath={config.get('manifest_filepath')} "
        f"with min_duration={config.get('min_duration')} and max_duration={config.get('max_duration')} seconds"
    )


def _utterances(loader: DataLoader, default: int) -> int:
    """How many utterances all ranks have together; `default` for data that do not know it."""
    if loader.batch_size is None or not hasattr(loader.dataset, "__len__"):
        return default
    return len(loader.dataset)


class SomeBatchRequired(pl.Callback):
    """Refuses training data that give no batch; Lightning ends such a run without a word, or never."""

    def __init__(self) -> None:
        self._empty_epochs = self._batches = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._batches = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self._batches += 1

    def on_train_epoch_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self._empty_epochs = 0 if self._batches else self._empty_epochs + 1
        if self._empty_epochs > 1:  # a run resumed at the end of an epoch has nothing left in it
            raise _no_batch(model)

    def on_fit_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if trainer.num_training_batches == 0 and trainer.limit_train_batches != 0:
            raise _no_batch(model)


def _no_batch(model: pl.LightningModule) -> ValueError:
    config = model.cfg.get("train_ds") or {}
    given = {key: config.get(key) for key in ("batch_size", "drop_last", "num_workers") if key in config}
    return ValueError(
        f"model.train_ds must give at least one batch on each rank; got none with {given or 'its data loader'}. Each "
        "worker needs a whole batch of utterances where drop_last is true: lower batch_size or num_workers, or set "
        "drop_last=false."
    )
