"""Weights split over the ranks of a mesh, here of one rank; `test_distributed.py` trains on two."""

import pytest
import torch
import torch.distributed
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from nemo.collections.asr.parts.utils.sharding import full_state_dict, is_sharded, shard_weights


@pytest.fixture
def mesh(tmp_path) -> DeviceMesh:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
    torch.distributed.destroy_process_group()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    model[1].bias.requires_grad_(False)
    return model


def test_outputs_and_whole_weights_are_those_of_the_model_before(mesh):
    model, audio = network(), torch.ones(3, 4)
    expected, weights = model(audio), {name: value.clone() for name, value in model.state_dict().items()}
    assert not is_sharded(model)
    shard_weights([model[0], model[1], model], model, mesh)
    assert is_sharded(model)
    torch.testing.assert_close(model(audio), expected)
    whole = full_state_dict(model)
    assert whole.keys() == weights.keys()
    assert all(type(whole[name]) is torch.Tensor and torch.equal(whole[name], weights[name]) for name in weights)


def test_frozen_weights_and_modules_without_trainable_ones_stay_whole(mesh):
    model = network()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    shard_weights([model[0], model[1], model], model, mesh)
    assert not is_sharded(model[0])
    assert {name for name, value in model[1].named_parameters() if not is_whole(value)} == {"weight"}


def is_whole(parameter: nn.Parameter) -> bool:
    return not hasattr(parameter, "full_tensor")


def test_a_mesh_that_splits_single_tensors_is_refused():
    class Mesh(dict):
        """Two ranks that split each tensor."""

        def size(self) -> int:
            return 2

    with pytest.raises(ValueError, match="^tensor_parallel_size must be 1, .*; got 2; set data_parallel_size"):
        shard_weights([], network(), Mesh(tensor_parallel=Mesh()))
