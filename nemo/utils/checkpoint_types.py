"""The types that checkpoints of NeMo and Lightning hold besides tensors, so that `torch.load` takes them.

Since 2.6, `torch.load` refuses every type that it does not know, unless it is told to run whatever the file says. A
checkpoint of a NeMo model holds the model's config, so NeMo's own calls of `torch.load` fail on it. Here the types of
such configs are allowed. They carry data: reading them runs no code of the file's choice, and all other types are
refused as before.
"""

import builtins
import collections
import dataclasses
import enum
import pathlib
import sys
import typing
from collections.abc import Iterator
from pickle import UnpicklingError
from typing import Any

import omegaconf
import torch
from omegaconf import base, nodes

__all__ = ["allow_checkpoint_types"]

_OF_OMEGACONF = (
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    base.ContainerMetadata,
    base.Metadata,
    base.UnionNode,
    nodes.AnyNode,
    nodes.BooleanNode,
    nodes.BytesNode,
    nodes.EnumNode,
    nodes.FloatNode,
    nodes.IntegerNode,
    nodes.PathNode,
    nodes.StringNode,
)

# What OmegaConf keeps as the type of an entry.
_GENERICS = (typing.Dict, typing.List, typing.Optional, typing.Tuple, typing.Union)  # noqa: UP006, UP035
_OF_ENTRIES = (
    *(builtins.bool, builtins.bytes, builtins.dict, builtins.float, builtins.int),
    *(builtins.list, builtins.str, builtins.tuple),
    *(typing.Any, *_GENERICS),
)

_OTHERS = (
    collections.defaultdict,  # each container of OmegaConf has one
    *(pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.WindowsPath),
)


def allow_checkpoint_types() -> None:
    """Lets `torch.load` read the types that a checkpoint's config can hold.

    Those of OmegaConf, paths, and the dataclasses and enums of all NeMo modules that are imported so far: NeMo makes
    configs from them (of decoding, for example). A second call adds what was imported since.
    """
    types: list[Any] = [*_OF_OMEGACONF, *_OF_ENTRIES, *_OTHERS, *_config_types_of_nemo()]
    # `Optional[int]` is pickled as a call of this function.
    torch.serialization.add_safe_globals([*types, (_subscripted_generic, "_operator.getitem")])


def _subscripted_generic(generic: Any, parameters: Any) -> Any:
    if not any(generic is allowed for allowed in _GENERICS):
        raise UnpicklingError(f"only types are subscripted in a checkpoint's config; got {generic!r}[{parameters!r}]")
    return generic[parameters]


def _config_types_of_nemo() -> Iterator[type]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "nemo":
            for value in list(vars(module).values()):
                if isinstance(value, type) and value.__module__ == name and _is_config_type(value):
                    yield value


def _is_config_type(value: type) -> bool:
    return dataclasses.is_dataclass(value) or issubclass(value, enum.Enum)
