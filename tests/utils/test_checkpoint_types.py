"""What `torch.load` takes once NeMo's ASR models are imported, and what it still refuses."""

import operator
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import MISSING, DictConfig, OmegaConf

import nemo.collections.asr.models  # noqa: F401  allows the types
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecodingConfig
from nemo.collections.asr.parts.submodules.multitask_decoding import MultiTaskDecodingConfig
from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTDecodingConfig

CONFIGS = {
    "containers": OmegaConf.create({"a": [1, 2.5, "b", None, {"c": True}], "d": "${a}", "e": MISSING, "f": b"x"}),
    "CTC decoding": OmegaConf.structured(CTCDecodingConfig),
    "RNNT decoding": OmegaConf.structured(RNNTDecodingConfig),
    "multitask decoding": OmegaConf.structured(MultiTaskDecodingConfig),
    "path": OmegaConf.create({"folder": Path("a/b")}),
}


def saved(value: Any, folder: Path) -> Path:
    torch.save({"state_dict": {"weight": torch.ones(2)}, "hyper_parameters": value}, folder / "file.ckpt")
    return folder / "file.ckpt"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_config_of_nemo_is_read(config: DictConfig, tmp_path):
    read = torch.load(saved(config, tmp_path))["hyper_parameters"]
    assert read == config and OmegaConf.get_type(read) is OmegaConf.get_type(config)


@dataclass
class OfTheUser:
    """A type of somebody's own, which torch does not know."""

    width: int = 1


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("made-by-the-file",)


class Subscripts:
    def __reduce__(self):
        return operator.getitem, ({"a": 1}, "a")


@pytest.mark.parametrize(
    "value", [OfTheUser(), RunsCode(), Subscripts()], ids=["a user's class", "a function", "a subscript"]
)
def test_every_other_type_is_refused_as_before(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed|only types are subscripted"):
        torch.load(saved(value, tmp_path))
    assert not (tmp_path / "made-by-the-file").exists()
