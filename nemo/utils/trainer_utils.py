"""`trainer.val_check_interval` may be a share of an epoch whatever the config says of epochs."""

from typing import Any

from omegaconf import DictConfig

from nemo.utils.trainer_utils import resolve_trainer_cfg as _nemo_resolve_trainer_cfg


def resolve_trainer_cfg(trainer_cfg: DictConfig) -> dict[str, Any]:
    """As NeMo's. Where `val_check_interval` is a share of an epoch, `check_val_every_n_epoch` is not null.

    With null, batches are counted across epochs. Lightning then refuses a share of an epoch, which would stop a config
    with null from taking `trainer.val_check_interval=0.5` on the command line.
    """
    options = _nemo_resolve_trainer_cfg(trainer_cfg)
    counts_across_epochs = options.get("check_val_every_n_epoch", 1) is None
    if counts_across_epochs and isinstance(options.get("val_check_interval"), float):
        options["check_val_every_n_epoch"] = 1
    return options
