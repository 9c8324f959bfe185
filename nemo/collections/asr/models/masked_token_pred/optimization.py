"""Options of `model.optim` that its optimizer or scheduler does not take are named, with what to do."""

import inspect
from collections.abc import Mapping
from typing import Any

from nemo.core.optim.lr_scheduler import AVAILABLE_SCHEDULERS
from nemo.core.optim.optimizers import AVAILABLE_OPTIMIZERS

__all__ = ["check_optimization"]

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_READ_BY_NEMO = {"name", "sched", "args", "_target_", "cls"}
_READ_BY_NEMO_SCHED = _READ_BY_NEMO | {"monitor", "reduce_on_plateau", "iters_per_batch", "max_steps"}


def check_optimization(config: Mapping[str, Any]) -> None:
    """Refuses options that another optimizer or scheduler has left behind, as when its name alone was changed.

    Args:
        config: `model.optim`. Names that NeMo does not know, and `args` and `_target_`, are left to NeMo.

    Raises:
        ValueError: naming the options, those that are allowed, and how to remove the others on the command line.
    """
    optimizer, schedule = config.get("name"), config.get("sched") or {}
    if optimizer is not None and optimizer in AVAILABLE_OPTIMIZERS and _is_flat(config):
        _check("model.optim", optimizer, AVAILABLE_OPTIMIZERS[optimizer], set(config) - _READ_BY_NEMO)
    scheduler = schedule.get("name")
    if scheduler is not None and scheduler in AVAILABLE_SCHEDULERS and _is_flat(schedule):
        given = {option for option in schedule if option not in _READ_BY_NEMO_SCHED and not option.startswith("t_")}
        hint = ""
        if "d_model" in given:
            hint = (
                f" Set model.optim.lr too: NoamAnnealing multiplies it by d_model^-0.5, {scheduler} does not; got "
                f"{config.get('lr')}."
            )
        _check("model.optim.sched", scheduler, AVAILABLE_SCHEDULERS[scheduler], given, hint)


def _is_flat(config: Mapping[str, Any]) -> bool:
    return "args" not in config and "_target_" not in config


def _check(key: str, name: str, cls: type, given: set[str], hint: str = "") -> None:
    allowed = _options(cls)
    others = sorted(given - allowed)
    if allowed and others:
        removal = " ".join(f"'~{key}.{option}'" for option in others)
        raise ValueError(
            f"{key} must have options of {name} only ({', '.join(sorted(allowed))}); got {', '.join(others)}. The "
            f"command line removes them by {removal}.{hint}"
        )


def _options(cls: type) -> set[str]:
    """The names that a class takes at construction, besides what it optimizes; empty where that cannot be told."""
    names: set[str] = set()
    for ancestor in cls.__mro__:
        if "__init__" in vars(ancestor):
            parameters = inspect.signature(vars(ancestor)["__init__"]).parameters.values()
            names |= {parameter.name for parameter in parameters if parameter.kind in _BY_NAME}
            if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
                return names - {"self", "params", "optimizer"}
    return set()
