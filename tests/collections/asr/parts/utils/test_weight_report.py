"""What is loaded, skipped and reported when a model starts from the weights of another."""

import pytest
import torch
from torch import nn

from nemo.collections.asr.parts.utils import weight_report
from nemo.collections.asr.parts.utils.weight_report import reported_loading


def network(width: int, **more: nn.Module) -> nn.ModuleDict:
    layers = nn.ModuleList(nn.Linear(2, width if index == 1 else 2) for index in range(3))
    return nn.ModuleDict({"layers": layers, **more})


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(weight_report.logging, "info", texts.append)
    return texts


def test_tensors_that_fit_are_loaded_and_all_others_are_named(logged):
    model, other = network(3, head=nn.Linear(2, 2)), network(4, old_head=nn.Linear(2, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with reported_loading(model):
        outcome = model.load_state_dict(other.state_dict(), strict=False)
    fitting = {"layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"}
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name] if name in fitting else before[name]), name
    assert set(outcome.missing_keys) == {"layers.1.weight", "layers.1.bias", "head.weight", "head.bias"}
    assert logged == [
        "Loaded 4 of 8 tensors.\n"
        "Of another shape, and left as initialised: layers.*.weight (file [4, 2], here [3, 2]), "
        "layers.*.bias (file [4], here [3])\n"
        "Not in the file, and left as initialised: head.weight, head.bias\n"
        "In the file, and not in this model: old_head.weight, old_head.bias"
    ]


def test_layers_of_a_number_are_one_name_in_the_report():
    names = [f"layers.{index}.weight" for index in range(12)] + ["bias"]
    assert weight_report.grouped(names) == "layers.*.weight (12 of them), bias"


def test_strict_loading_raises_as_without_a_report(logged):
    model = network(3)
    with reported_loading(model), pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(network(4).state_dict())
    assert logged == []


def test_afterwards_the_model_loads_as_before(logged):
    model = network(3)
    with pytest.raises(OSError), reported_loading(model):
        raise OSError
    assert "load_state_dict" not in vars(model)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(network(4).state_dict(), strict=False)
