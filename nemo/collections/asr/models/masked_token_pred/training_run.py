"""A training run from its data and optimizer to its end: what NeMo leaves to the size of the data."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback
from omegaconf import DictConfig, OmegaConf

from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.models.masked_token_pred.optimization import check_optimization
from nemo.collections.asr.models.masked_token_pred.run_endings import InterruptedRun, LastValidation
from nemo.collections.asr.models.masked_token_pred.training_data import (
    SomeBatchRequired,
    check_has_utterances,
    drops_everything,
    utterances_required,
)
from nemo.utils import logging

__all__ = ["TrainingRun"]


class TrainingRun(ModelPart):
    """A mixin of the masked token prediction models."""

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Adds the callbacks that end a run: with a validation, with a checkpoint, or with an error without data."""
        return [*super().configure_callbacks(), SomeBatchRequired(), LastValidation(), InterruptedRun()]

    def setup_training_data(self, train_data_config: DictConfig | Mapping[str, Any]) -> None:
        """Makes the data loader of training. A batch that `drop_last` would drop is kept where it is the only one.

        Raises:
            ValueError: no utterance is left.
        """
        with utterances_required("model.train_ds", train_data_config):
            super().setup_training_data(train_data_config)
        check_has_utterances("model.train_ds", train_data_config, self._train_dl)
        if drops_everything(self._train_dl, self.world_size):
            logging.warning(
                f"model.train_ds has {len(self._train_dl.dataset)} utterances for {self.world_size} rank(s), less "
                f"than a batch of {self._train_dl.batch_size} on each. drop_last is ignored, so that there is a batch."
            )
            config = OmegaConf.merge(train_data_config, {"drop_last": False})
            self._train_dl = self._setup_dataloader_from_config(config=config)

    def setup_validation_data(self, val_data_config: DictConfig | Mapping[str, Any]) -> None:
        """Makes the data loader of validation; none where `manifest_filepath` is null.

        Raises:
            ValueError: no utterance is left.
        """
        if "manifest_filepath" in val_data_config and not _names_data(val_data_config):
            logging.info("model.validation_ds names no data (manifest_filepath is null): there is no validation.")
            return
        super().setup_validation_data(val_data_config)
        check_has_utterances("model.validation_ds", val_data_config, self._validation_dl)

    def setup_optimization(
        self,
        optim_config: DictConfig | Mapping[str, Any] | None = None,
        optim_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Makes optimizer and scheduler.

        Raises:
            ValueError: `model.optim` has options that they do not take.
        """
        config = self.cfg.get("optim") if optim_config is None else optim_config
        if config is not None:
            check_optimization(config)
        return super().setup_optimization(optim_config, optim_kwargs)


def _names_data(config: DictConfig | Mapping[str, Any]) -> bool:
    return config.get("manifest_filepath") is not None or bool(config.get("use_lhotse"))
