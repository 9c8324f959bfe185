"""Pretrains a NEST encoder for several attention contexts.

    python masked_token_pred_pretrain.py \
        model.train_ds.manifest_filepath=train_manifest.json \
        model.train_ds.noise_manifest=noise_manifest.json \
        model.validation_ds.manifest_filepath=validation_manifest.json \
        model.validation_ds.noise_manifest=noise_manifest.json \
        trainer.max_steps=500000 \
        exp_manager.exp_dir=experiments

A run that is started again with the same `exp_manager.exp_dir` goes on from its last checkpoint. To start from the
weights of another model, add `+init_from_nemo_model=offline_nest.nemo`. Any other key of the config can be set in the
same way; `--config-name` chooses another config of `../conf/ssl/nest`.
"""

import lightning.pytorch as pl
from omegaconf import DictConfig, OmegaConf

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.core.config import hydra_runner
from nemo.utils import logging
from nemo.utils.exp_manager import exp_manager
from nemo.utils.trainer_utils import resolve_trainer_cfg


@hydra_runner(config_path="../conf/ssl/nest", config_name="nest_fast-conformer_streaming_future")
def main(cfg: DictConfig) -> None:
    """Builds trainer and model from the config, and trains."""
    logging.info(f"Config:\n{OmegaConf.to_yaml(cfg)}")
    if cfg.get("seed") is not None:
        pl.seed_everything(cfg.seed, workers=True)
    trainer = pl.Trainer(**resolve_trainer_cfg(cfg.trainer))
    exp_manager(trainer, cfg.get("exp_manager", None))
    model = EncDecDenoiseMaskedTokenPredModel(cfg=cfg.model, trainer=trainer)
    model.maybe_init_from_pretrained_checkpoint(cfg)
    trainer.fit(model)


if __name__ == "__main__":
    main()
