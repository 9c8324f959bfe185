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
    names_data,
    utterances_required,
    with_listed_manifests,
)
from nemo.utils import logging

__all__ = ["TrainingRun"]


class TrainingRun(ModelPart):
    """A mixin of the masked token prediction models."""

    _in_setup = False

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Adds the callbacks that end a run: with a validation, with a checkpoint, or with an error without data."""
        return [*super().configure_callbacks(), SomeBatchRequired(), LastValidation(), InterruptedRun()]

    def setup_training_data(self, train_data_config: DictConfig | Mapping[str, Any]) -> None:
        """Makes the data loader of training; none where `manifest_filepath` is null.

        A batch that `drop_last` would drop is kept where it is the only one.

        Raises:
            ValueError: no utterance is left, or tarred data name no tar files.
        """
        if not names_data(train_data_config):
            return
        train_data_config = with_listed_manifests("model.train_ds", train_data_config)
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

    def setup(self, stage: str | None = None) -> None:
        """As NeMo's, which asks for the data loaders: there may be none yet, or others be given to `Trainer.fit`."""
        self._in_setup = True
        try:
            super().setup(stage)
        finally:
            self._in_setup = False

    def train_dataloader(self) -> Any:
        """The data loader of training.

        Raises:
            ValueError: the config names no data to train on.
        """
        if self._train_dl is None and not self._in_setup:
            raise ValueError(
                "model.train_ds must name the data to train on, by manifest_filepath or with use_lhotse; got "
                f"{self.cfg.get('train_ds') and 'manifest_filepath=null'}"
            )
        return super().train_dataloader()

    def setup_validation_data(self, val_data_config: DictConfig | Mapping[str, Any]) -> None:
        """Makes the data loader of validation; none where `manifest_filepath` is null.

        Raises:
            ValueError: no utterance is left.
        """
        if not names_data(val_data_config):
            logging.info("model.validation_ds names no data (manifest_filepath is null): there is no validation.")
            return
        super().setup_validation_data(val_data_config)
        check_has_utterances("model.validation_ds", val_data_config, self._validation_dl)

    def setup_optimization(
        self,
        optim_config: DictConfig | Mapping[str, Any] | None = None,
        optim_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Makes optimizer and scheduler; no scheduler where `model.optim.sched` is null.

        Raises:
            ValueError: `model.optim` has options that they do not take.
        """
        config = self.cfg.get("optim") if optim_config is None else optim_config
        if config is not None:
            check_optimization(config)
            if config.get("sched", "absent") is None:  # NeMo takes its absence only
                optim_config = OmegaConf.create({str(key): value for key, value in config.items() if key != "sched"})
        return super().setup_optimization(optim_config, optim_kwargs)
