"""Checkpoints that are named where a model starts from them: what they may be, and a clear error for broken ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo.core.classes.modelPT import ModelPT
from nemo.utils.checkpoint_files import check_checkpoint_file

_INITIALISERS = {"init_from_nemo_model": "path", "init_from_pretrained_model": "name", "init_from_ptl_ckpt": "path"}
"""NeMo's config keys for a model to start from, each with the key that names it in the longer form."""

_nemo_maybe_init = ModelPT.maybe_init_from_pretrained_checkpoint
_nemo_load_from_checkpoint = ModelPT.load_from_checkpoint.__func__


@rank_zero_only
def _maybe_init_from_pretrained_checkpoint(self: ModelPT, cfg: DictConfig, map_location: str = "cpu") -> None:
    """Starts from the weights that `cfg` names, as NeMo does.

    Args:
        cfg: the whole config. Each of `init_from_nemo_model`, `init_from_pretrained_model` and `init_from_ptl_ckpt`
            may be a path (a name for the second), one entry with `path` (`name`), `include` and `exclude`, or several
            such entries under names of the user's own.
        map_location: where weights are loaded to first.

    Raises:
        ValueError: `init_from_ptl_ckpt` names a file that is empty, cut short, or no checkpoint.
    """
    _nest_single_entries(cfg)
    for file in _named_checkpoints(cfg.get("init_from_ptl_ckpt")):
        check_checkpoint_file(
            "init_from_ptl_ckpt", file, "use init_from_nemo_model for .nemo files" if file.endswith(".nemo") else ""
        )
    _nemo_maybe_init(self, cfg, map_location)


def _nest_single_entries(cfg: DictConfig) -> None:
    """Gives a single entry a name of its own, since NeMo takes a mapping for several named entries."""
    for key, required in _INITIALISERS.items():
        given = cfg.get(key)
        if OmegaConf.is_dict(given) and isinstance(given.get(required), str):
            with open_dict(cfg):
                cfg[key] = {"model": given}


def _named_checkpoints(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif OmegaConf.is_dict(given):
        entries = (entry for entry in given.values() if OmegaConf.is_dict(entry))
        yield from (entry.path for entry in entries if isinstance(entry.get("path"), str))


def _load_from_checkpoint(cls: type[ModelPT], checkpoint_path: Any, *args: Any, **kwargs: Any) -> ModelPT:
    """Loads a Lightning checkpoint, as NeMo does.

    Raises:
        ValueError: the file is empty, cut short, or no checkpoint.
    """
    if isinstance(checkpoint_path, (str, Path)):
        check_checkpoint_file("checkpoint_path", checkpoint_path)
    return _nemo_load_from_checkpoint(cls, checkpoint_path, *args, **kwargs)


ModelPT.maybe_init_from_pretrained_checkpoint = _maybe_init_from_pretrained_checkpoint
ModelPT.load_from_checkpoint = classmethod(_load_from_checkpoint)
