"""Lays this project's half of NeMo over the installed NeMo, at import, without changing a file of it.

One rule: a file under ``nemo/`` is executed in NeMo's module of the same name, right after NeMo's own file. A file
that NeMo does not have is a new module. So NeMo's names stay where they are, and ours join or replace them:

    from nemo.collections.asr.parts.utils.streaming_utils import set_dynamic_context

An install activates this when an interpreter starts, through a ``.pth`` file that calls :func:`install`.
``NEMO_OVERLAY=0`` in the environment turns it off; ``python -m nemo_overlay status`` shows what is laid over what.

Every interpreter of the environment imports this file, so it imports nothing that the interpreter has not loaded
anyway. The rest waits for the first module of NeMo that we have a half of.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:
    Loader = object

__version__ = "0.1.0"

# A NeMo source that carries this text has our half in it already: `python -m nemo_overlay apply` writes it.
IN_TREE_MARK = "# nemo-streaming-ssl:"

# Module name -> (our file, NeMo's file or None for a new module), for each module that this process has loaded.
laid_over: "dict[str, tuple[str, str | None]]" = {}


class OverlayError(ImportError):
    """Our half of a module cannot be loaded. The message names our file, or what stands in the way."""


class OverlayFinder:
    """Finds NeMo's half of a module through all other finders, and ours below `tree`; leaves the rest to them."""

    def __init__(self, tree: str):
        self.tree = tree
        self._checked = False

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        # A hook installed after ours would answer for NeMo's modules in our place. Asked through us, both take part.
        if sys.meta_path[0] is not self and self in sys.meta_path:
            sys.meta_path.remove(self)
            sys.meta_path.insert(0, self)
        if name == "nemo":
            return self._ask_others(name, path, target)
        if not name.startswith("nemo.") or not self._is_ours_to_find(path):
            return None
        ours = self.find_ours(name)
        if ours is None:
            return self._find_moved(name, path, target)
        # Within a new package of ours, the other finders know our own file alone.
        theirs = None if _lies_in(path, self.tree) else self._ask_others(name, path, target)
        if carries_our_half(theirs):
            return theirs
        self._check_once()
        loader = OverlayLoader(ours, theirs.loader if theirs is not None else None)
        spec = theirs or ours
        spec.loader = loader
        return spec

    def find_ours(self, name: str) -> "ModuleSpec | None":
        """The spec of our half of module `name`, or None where we have none."""
        from importlib.machinery import PathFinder

        parents = name.split(".")[1:-1]
        spec = PathFinder.find_spec(name, [os.path.join(self.tree, *parents)])
        return spec if _has_code(spec) else None

    def _is_ours_to_find(self, path: "Sequence[str] | None") -> bool:
        """Whether `path`, where a package looks for its modules, lies in NVIDIA's NeMo or in a new package of ours."""
        return path is not None and (_belongs_to_nemo(path) or (_is_nvidias_nemo() and _lies_in(path, self.tree)))

    def _find_moved(self, name: str, path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
        """The spec of a module under the name that it had in an earlier version of ours."""
        from nemo_overlay.moved import MOVED, find_moved

        if name not in MOVED or self._ask_others(name, path, target) is not None:
            return None
        return find_moved(name)

    def _ask_others(self, name: str, path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
        # Folders without __init__.py are passed over: in a clone of this project, `nemo` is one, and it must not hide
        # an editable NeMo, whose finder comes after the one for sys.path.
        for finder in sys.meta_path:
            if isinstance(finder, OverlayFinder) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if _has_code(spec):
                return spec
        return None

    def _check_once(self) -> None:
        if not self._checked:
            from nemo_overlay.checks import check_environment

            check_environment()
            self._checked = True


class OverlayLoader(Loader):
    """Executes NeMo's file, where NeMo has one, and then ours, in one module."""

    def __init__(self, ours: "ModuleSpec", theirs: "Loader | None" = None) -> None:
        assert ours.loader is not None and ours.origin is not None  # as `find_ours` gives it
        self._our_file, self._our_loader, self._theirs = ours.origin, ours.loader, theirs

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        return (self._theirs or self._our_loader).create_module(spec)

    def exec_module(self, module: "ModuleType") -> None:
        spec = module.__spec__
        assert spec is not None  # importlib has set it
        # From here on the module is NeMo's own, to whatever reads its source, data or resources through its loader.
        spec.loader = module.__loader__ = self._theirs or self._our_loader
        if self._theirs is not None:
            self._theirs.exec_module(module)
        self._exec_ours(module)
        laid_over[module.__name__] = (self._our_file, None if self._theirs is None else spec.origin)

    def _exec_ours(self, module: "ModuleType") -> None:
        import linecache

        file = self._our_file
        # Tracebacks find the lines of a file in a zipped app through the module's loader, and that is NeMo's.
        linecache.lazycache(file, {"__name__": module.__name__, "__loader__": self._our_loader})
        try:
            self._our_loader.exec_module(module)
        except OverlayError:
            raise
        except Exception as error:
            from nemo_overlay.checks import describe_failure

            raise OverlayError(describe_failure(module, file, error), name=module.__name__, path=file) from error

    def __getattr__(self, name: str) -> object:
        loader = object.__getattribute__(self, "_theirs") or object.__getattribute__(self, "_our_loader")
        return getattr(loader, name)


def install() -> bool:
    """Lay our half over every module of NeMo imported from now on; a second call changes nothing.

    Returns:
        Whether the overlay is active: False where ``NEMO_OVERLAY=0`` is set.

    Raises:
        RuntimeError: modules of NeMo that we extend are imported already, so it is too late for them.
    """
    if os.environ.get("NEMO_OVERLAY") == "0":
        return False
    if not is_active():
        finder = OverlayFinder(find_tree())
        late = _imported_without_us(finder)
        if late:
            raise RuntimeError(
                f"nemo_overlay.install() must be called before modules of NeMo are imported; got {', '.join(late)} "
                "imported already"
            )
        sys.meta_path.insert(0, finder)
    return True


def uninstall() -> None:
    """Leave NeMo's modules alone from now on. Those already imported keep our half."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, OverlayFinder)]


def is_active() -> bool:
    """Whether modules of NeMo imported from now on get our half."""
    return any(isinstance(finder, OverlayFinder) for finder in sys.meta_path)


def find_tree() -> str:
    """The folder of our half: inside this package in a built install, beside it in a clone."""
    package = os.path.dirname(os.path.abspath(__file__))
    beside = os.path.join(os.path.dirname(package), "nemo")
    # In a site-packages folder, what lies beside this package is NeMo itself.
    is_clone = os.path.isdir(beside) and not os.path.exists(os.path.join(beside, "__init__.py"))
    inside = os.path.join(package, "nemo")
    return beside if is_clone and not os.path.isdir(inside) else inside


def carries_our_half(spec: "ModuleSpec | None") -> bool:
    """Whether NeMo's own source of this module has our half written into it."""
    if spec is None:
        return False
    get_source = getattr(spec.loader, "get_source", None)
    source = get_source(spec.name) if get_source else None
    return source is not None and IN_TREE_MARK in source


def _has_code(spec: "ModuleSpec | None") -> bool:
    """False too for a folder without __init__.py, which importlib finds as a package without a loader."""
    return spec is not None and spec.loader is not None


def _is_nvidias_nemo() -> bool:
    """Whether the imported `nemo` is NVIDIA's and not a namesake."""
    info = sys.modules.get("nemo.package_info")
    return getattr(info, "__package_name__", None) == "nemo_toolkit"


def _belongs_to_nemo(path: "Sequence[str] | None") -> bool:
    """Whether `path`, where a package looks for its modules, lies in NVIDIA's NeMo and not in a namesake."""
    return _is_nvidias_nemo() and _lies_in(path, os.path.dirname(sys.modules["nemo.package_info"].__file__ or ""))


def _lies_in(path: "Sequence[str] | None", root: str) -> bool:
    return path is not None and all(folder == root or folder.startswith(root + os.sep) for folder in path)


def _imported_without_us(finder: OverlayFinder) -> "list[str]":
    if not _belongs_to_nemo(getattr(sys.modules.get("nemo"), "__path__", None)):
        return []
    return [
        name
        for name, module in sorted(sys.modules.items())
        if name.startswith("nemo.")
        and name not in laid_over
        and finder.find_ours(name) is not None
        and not carries_our_half(module.__spec__)
    ]
