"""Modules of ours under the names that they had in an earlier version: they stay importable, with a warning."""

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

_PARTS = "nemo.collections.asr.parts"

# Name of a module in the first version -> the modules that hold its public names now.
MOVED: dict[str, tuple[str, ...]] = {
    f"{_PARTS}.utils.attention_context": (f"{_PARTS}.attention_context",),
    f"{_PARTS}.utils.conformer_step": (f"{_PARTS}.streaming.conformer_step", f"{_PARTS}.streaming.step_state"),
    f"{_PARTS}.utils.context_drawing": (f"{_PARTS}.attention_context.callback",),
    f"{_PARTS}.utils.context_metrics": (f"{_PARTS}.attention_context.metrics",),
    f"{_PARTS}.utils.encoder_stream": (f"{_PARTS}.streaming.encoder_stream", f"{_PARTS}.streaming.stream_memory"),
    f"{_PARTS}.utils.graphed_step": (f"{_PARTS}.streaming.graphed_step",),
    f"{_PARTS}.utils.online_features": (f"{_PARTS}.streaming.online_features",),
    f"{_PARTS}.utils.ragged_queue": (f"{_PARTS}.streaming.ragged_queue",),
    f"{_PARTS}.utils.subsampling_step": (f"{_PARTS}.streaming.subsampling_step",),
}

# Old name of a class or function in one of these modules -> its name now.
RENAMED: dict[str, str] = {"ContextDrawing": "ContextSampling", "context_drawing_of": "sampled_context"}


def find_moved(name: str) -> ModuleSpec:
    """The spec of a module of `MOVED`: it warns when it is imported, and takes its names from where they are now."""
    return ModuleSpec(name, _MovedLoader(), origin=f"moved to {' and '.join(MOVED[name])}")


class _MovedLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        targets = MOVED[module.__name__]
        # importlib's own frames are not counted, so this is the line of the import.
        warnings.warn(f"{module.__name__} has moved to {' and '.join(targets)}", DeprecationWarning, stacklevel=2)
        module.__getattr__ = _names_of(module.__name__, targets)  # type: ignore[method-assign]


def _names_of(old: str, targets: tuple[str, ...]) -> Callable[[str], object]:
    """The `__getattr__` of the module `old`."""

    def __getattr__(name: str) -> object:
        modules = [import_module(target) for target in targets]
        if name == "__all__":
            names = {public for module in modules for public in module.__all__}
            return sorted(names | {before for before, now in RENAMED.items() if now in names})
        if not name.startswith("__"):
            for module in modules:
                if hasattr(module, RENAMED.get(name, name)):
                    return getattr(module, RENAMED.get(name, name))
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return __getattr__
