"""Data sets whose `collate_fn` can be sent to spawned workers of a data loader."""

import copyreg
from collections.abc import Callable
from typing import Any

from wrapt import BoundFunctionWrapper


def _by_name(method: BoundFunctionWrapper) -> tuple[Callable, tuple[Any, str]]:
    return getattr, (method.__self__, method.__name__)


# NeMo wraps `collate_fn` in its type check, and a wrapped method refuses to be pickled. A plain method is pickled by
# its object and its name.
copyreg.pickle(BoundFunctionWrapper, _by_name)
