"""Reports which tensors were loaded when a model starts from the weights of another."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from nemo.utils import logging

__all__ = ["reported_loading"]


@contextmanager
def reported_loading(model: nn.Module) -> Iterator[None]:
    """Within the block, `model.load_state_dict(..., strict=False)` skips tensors of another shape, and logs a report.

    torch raises where a shape differs, whatever `strict` is, and NeMo does not say which tensors it did not find.
    """
    load = model.load_state_dict

    def load_and_report(state_dict: Mapping[str, Any], strict: bool = True, **options: Any) -> Any:
        if strict:
            return load(state_dict, strict=True, **options)
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        misfits = {
            name: (tuple(value.shape), shapes[name])
            for name, value in state_dict.items()
            if isinstance(value, Tensor) and name in shapes and value.shape != shapes[name]
        }
        rest = {name: value for name, value in state_dict.items() if name not in misfits}
        outcome = load(rest, strict=False, **options)
        missing = [name for name in outcome.missing_keys if name not in misfits]
        logging.info(report(len(shapes) - len(outcome.missing_keys), len(shapes), missing, outcome, misfits))
        return outcome

    vars(model)["load_state_dict"] = load_and_report
    try:
        yield
    finally:
        del vars(model)["load_state_dict"]


def report(loaded: int, total: int, missing: list[str], outcome: Any, misfits: dict[str, tuple]) -> str:
    """How many tensors were loaded, and the names of the others; numbered layers are grouped."""
    lines = [f"Loaded {loaded} of {total} tensors."]
    if misfits:
        shapes = {name: f"{name} (file {list(theirs)}, here {list(ours)})" for name, (theirs, ours) in misfits.items()}
        lines.append(f"Of another shape, and left as initialised: {grouped(shapes.values())}")
    if missing:
        lines.append(f"Not in the file, and left as initialised: {grouped(missing)}")
    if outcome.unexpected_keys:
        lines.append(f"In the file, and not in this model: {grouped(outcome.unexpected_keys)}")
    return "\n".join(lines)


def grouped(names: Iterable[str]) -> str:
    """`layers.0.a, layers.1.a` as `layers.*.a (2 of them)`."""
    groups = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in names)
    return ", ".join(name if count == 1 else f"{name} ({count} of them)" for name, count in groups.items())
