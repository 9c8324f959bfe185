"""The interval of validation as a share of an epoch, or as a number of batches."""

import pytest
from omegaconf import OmegaConf

from nemo.utils.trainer_utils import resolve_trainer_cfg


@pytest.mark.parametrize(
    "given, resolved",
    [
        ({"val_check_interval": 0.5, "check_val_every_n_epoch": None}, 1),
        ({"val_check_interval": 1.0, "check_val_every_n_epoch": None}, 1),
        ({"val_check_interval": 100, "check_val_every_n_epoch": None}, None),
        ({"check_val_every_n_epoch": None}, None),
        ({"val_check_interval": 0.5, "check_val_every_n_epoch": 3}, 3),
        ({"val_check_interval": 100, "check_val_every_n_epoch": 1}, 1),
    ],
)
def test_a_share_of_an_epoch_is_counted_in_each_epoch(given, resolved):
    assert resolve_trainer_cfg(OmegaConf.create(given)) == {**given, "check_val_every_n_epoch": resolved}


def test_what_the_config_leaves_to_lightning_stays_so():
    assert resolve_trainer_cfg(OmegaConf.create({"val_check_interval": 0.5})) == {"val_check_interval": 0.5}
