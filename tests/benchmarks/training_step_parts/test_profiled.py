"""A profiled step: its parts and operators."""

from types import SimpleNamespace

import torch
from torch import nn
from training_step_parts.profiled import PartsOfAStep


def test_a_step_divides_into_its_parts_and_what_is_left_open_ends_with_it():
    names = ("preprocessor", "mask_processor", "decoder", "quantizer", "loss")
    model = SimpleNamespace(**{name: nn.Linear(4, 4) for name in names})
    model.encoder = SimpleNamespace(pre_encode=nn.Linear(4, 4), layers=[nn.Linear(4, 4), nn.Linear(4, 4)])
    parts = PartsOfAStep(model)
    parts.begin_step()
    frames = torch.ones(2, 4)
    for module in (model.preprocessor, model.encoder.pre_encode, *model.encoder.layers, model.decoder):
        frames = module(frames)
    parts.on_before_backward(None, None, frames)
    frames.sum().backward()
    parts.on_after_backward(None, None)
    parts.on_before_optimizer_step(None, None, None)
    parts.end_step()
    assert not parts.open
    summary = parts.summary()
    spent = summary["parts"]
    assert spent.keys() == {"step", "features", "subsampling", "layers", "decoder", "backward", "optimizer"}
    assert all(0 < value <= spent["step"] for value in spent.values())
    assert summary["operators"]["aten::addmm"] > 0
