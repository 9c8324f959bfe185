"""Splits weights over ranks (FSDP2) for pretraining under Lightning's `ModelParallelStrategy`."""

from itertools import chain
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

__all__ = ["full_state_dict", "is_sharded", "shard_weights"]


def shard_weights(modules: list[nn.Module], whole: nn.Module, mesh: DeviceMesh) -> None:
    """Splits the trainable weights of modules over the ranks of a mesh, in place.

    The weights of each module are gathered when it runs. Frozen weights stay whole on every rank, since they are read
    outside of their module's forward. All ranks start from rank 0's values.

    Args:
        modules: what to split, children before their parents; all trainable weights of `whole` must be in them.
        whole: the model.
        mesh: `device_mesh` of the strategy, with the dimensions `data_parallel` and `tensor_parallel`.

    Raises:
        ValueError: the mesh splits single tensors (`tensor_parallel_size` above 1).
    """
    if mesh["tensor_parallel"].size() > 1:
        raise ValueError(
            f"tensor_parallel_size must be 1, since weights are split over data-parallel ranks only; "
            f"got {mesh['tensor_parallel'].size()}; set data_parallel_size to the number of ranks"
        )
    for tensor in chain(whole.parameters(), whole.buffers()):
        torch.distributed.broadcast(tensor.detach(), src=0)
    frozen = {parameter for parameter in whole.parameters() if not parameter.requires_grad}
    for module in modules:
        if any(parameter.requires_grad for parameter in module.parameters()):
            fully_shard(module, mesh=mesh["data_parallel"], ignored_params=frozen)


def is_sharded(module: nn.Module) -> bool:
    """Whether any weight of a module is split over ranks."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def full_state_dict(module: nn.Module) -> dict[str, Any]:
    """The state dict of a sharded module with whole tensors, on the CPU; empty on all ranks but rank 0.

    A collective operation: every rank must call it.
    """
    return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
