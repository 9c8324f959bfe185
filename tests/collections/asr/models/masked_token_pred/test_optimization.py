"""Options that one optimizer or scheduler leaves to another."""

import pytest
import torch
from omegaconf import OmegaConf

from nemo.collections.asr.models.masked_token_pred.optimization import check_optimization
from nemo.core.optim.lr_scheduler import AVAILABLE_SCHEDULERS, prepare_lr_scheduler
from nemo.core.optim.optimizers import AVAILABLE_OPTIMIZERS

NOAM = {"name": "NoamAnnealing", "d_model": 16, "warmup_steps": 10, "warmup_ratio": None, "min_lr": 1e-6}
ADAMW = {"name": "adamw", "lr": 5.0, "betas": [0.9, 0.98], "weight_decay": 1e-3}


def has_foreign_options(make, *args, **options) -> bool:
    try:
        make(*args, **options)
    except Exception as error:  # of another kind where other things are missing
        return "unexpected keyword argument" in f"{error} {error.__cause__}"
    return False


def is_refused(config) -> bool:
    try:
        check_optimization(config)
    except ValueError:
        return True
    return False


@pytest.mark.slow
def test_a_scheduler_changed_by_name_alone_is_told_what_to_change(recipe):
    with pytest.raises(ValueError, match="model.optim.sched must have options of CosineAnnealing only") as refusal:
        recipe("model.optim.sched.name=CosineAnnealing", "trainer.max_steps=1")
    assert "got d_model. The command line removes them by '~model.optim.sched.d_model'" in str(refusal.value)
    assert "Set model.optim.lr too" in str(refusal.value) and "got 5.0" in str(refusal.value)
    followed = ("model.optim.sched.name=CosineAnnealing", "~model.optim.sched.d_model", "model.optim.lr=1e-3")
    assert recipe(*followed, "model.optim.sched.warmup_steps=1", "trainer.max_steps=2").steps == 2


@pytest.mark.slow
def test_an_optimizer_changed_by_name_alone_is_told_what_to_change(recipe):
    with pytest.raises(
        ValueError, match=r"model.optim must have options of sgd only .*got betas\. .*'~model.optim.betas'"
    ):
        recipe("model.optim.name=sgd", "trainer.max_steps=1")
    assert recipe("model.optim.name=sgd", "~model.optim.betas", "trainer.max_steps=1").steps == 1


@pytest.mark.parametrize("name", sorted(AVAILABLE_SCHEDULERS))
def test_what_is_refused_is_what_nemo_fails_on(name):
    """Each scheduler with the options of NoamAnnealing: the check agrees with NeMo's own construction."""
    schedule = {**NOAM, "name": name}
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=5.0)
    config = {**ADAMW, "sched": schedule}
    assert is_refused(config) == has_foreign_options(prepare_lr_scheduler, optimizer, {**schedule, "max_steps": 100})
    assert is_refused(config) == (name != "NoamAnnealing")


@pytest.mark.parametrize("name", sorted(AVAILABLE_OPTIMIZERS))
def test_each_optimizer_takes_what_the_check_lets_through(name):
    config = {**ADAMW, "name": name}
    cls = AVAILABLE_OPTIMIZERS[name]
    options = {key: value for key, value in config.items() if key != "name"}
    assert is_refused(config) == has_foreign_options(cls, [torch.nn.Parameter(torch.ones(1))], **options)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "adamw", "lr": 1.0, "sched": {"name": "someone's own", "anything": 1}},
        {"name": "someone's own", "lr": 1.0, "anything": 1},
        {"lr": 1.0, "_target_": "torch.optim.SGD", "anything": 1},
        {"name": "adamw", "lr": 1.0, "sched": None},
        {"name": "adamw", "lr": 1.0, "sched": {"name": "CosineAnnealing", "args": {"d_model": 1}}},
        {"name": "adamw", "lr": 1.0, "sched": {"name": "CosineAnnealing", "monitor": "loss", "t_max_epochs": 3}},
    ],
)
def test_what_nemo_resolves_in_another_way_is_left_to_it(config):
    check_optimization(OmegaConf.create(config))
