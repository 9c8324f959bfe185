"""What an import gives when our half is laid over NeMo's."""

import shutil
from textwrap import dedent

import pytest
from overlay_trees import (
    ACTIVATE,
    NEMO,
    OURS,
    SHOW_MASK,
    failure,
    lay_out_clone,
    output,
    run,
    write_files,
)


def test_our_names_join_and_replace_those_of_nemo(nemo, built):
    code = """
        from nemo.collections.asr.masks import Kept, Mask, ours, theirs
        print(Mask.kind, Mask.context, Mask.__mro__[1].kind, theirs(), ours(), Kept.__module__)
        """
    expected = "ours [160, 0] NeMo's NeMo's function our function nemo.collections.asr.masks"
    assert output(ACTIVATE + dedent(code), nemo, built) == expected


def test_a_module_that_nemo_imports_itself_has_both_halves(nemo, built):
    code = "from nemo.collections.asr.models import build, built_by; print(build().kind, built_by)"
    assert output(ACTIVATE + code, nemo, built) == "ours both halves"


def test_a_file_that_nemo_lacks_is_an_ordinary_new_module(nemo, built):
    code = "import nemo.collections.asr.contexts as m; print(m.DEFAULT, m.__file__, type(m.__loader__).__name__)"
    file = built / "nemo_overlay/nemo/collections/asr/contexts.py"
    assert output(ACTIVATE + code, nemo, built) == f"[160, 0] {file} SourceFileLoader"


def test_an_extended_module_keeps_the_file_spec_and_loader_of_nemo(nemo, built):
    code = """
        import nemo.collections.asr.masks as m
        print(m.__file__, m.__spec__.origin, type(m.__spec__.loader).__name__, m.__loader__ is m.__spec__.loader)
        """
    file = nemo / "nemo/collections/asr/masks.py"
    assert output(ACTIVATE + dedent(code), nemo, built) == f"{file} {file} SourceFileLoader True"


def test_modules_without_a_half_of_ours_are_left_to_the_other_finders(nemo, built):
    code = "import nemo.collections.asr.untouched as m, nemo_overlay; print(m.kind, nemo_overlay.laid_over)"
    assert output(ACTIVATE + code, nemo, built) == "NeMo's {}"


def test_what_was_laid_over_what_is_recorded(nemo, built):
    code = "import nemo.collections.asr.masks, nemo_overlay; print(nemo_overlay.laid_over)"
    ours = built / "nemo_overlay/nemo/collections/asr"
    assert eval(output(ACTIVATE + code, nemo, built)) == {
        "nemo.collections.asr.contexts": (str(ours / "contexts.py"), None),
        "nemo.collections.asr.masks": (str(ours / "masks.py"), str(nemo / "nemo/collections/asr/masks.py")),
    }


def test_a_package_of_nemo_can_be_extended_by_its_init_file(nemo, build_ours):
    built = build_ours({"collections/asr/__init__.py": "streaming = True\n", **OURS})
    code = (
        "import nemo.collections.asr as m; from nemo.collections.asr.masks import Mask; print(m.streaming, Mask.kind)"
    )
    assert output(ACTIVATE + code, nemo, built) == "True ours"


def test_a_new_package_of_ours_and_its_modules_are_recorded_as_new(nemo, build_ours):
    built = build_ours({"collections/asr/live/__init__.py": "", "collections/asr/live/stream.py": "step = 1\n"})
    code = """
        from nemo.collections.asr.live.stream import step
        import nemo.collections.asr.live.stream as m, nemo_overlay
        print(step, type(m.__loader__).__name__, nemo_overlay.laid_over)
        """
    step, loader, recorded = output(ACTIVATE + dedent(code), nemo, built).split(" ", 2)
    folder = built / "nemo_overlay/nemo/collections/asr/live"
    assert (step, loader) == ("1", "SourceFileLoader")
    assert eval(recorded) == {
        "nemo.collections.asr.live": (str(folder / "__init__.py"), None),
        "nemo.collections.asr.live.stream": (str(folder / "stream.py"), None),
    }


def test_a_failure_in_a_new_package_of_ours_names_the_file(nemo, build_ours):
    built = build_ours({"collections/asr/live/__init__.py": "", "collections/asr/live/stream.py": "1 / 0\n"})
    error = failure(ACTIVATE + "import nemo.collections.asr.live.stream", nemo, built).splitlines()[-1]
    assert error.startswith(f"nemo_overlay.OverlayError: {built}/nemo_overlay/nemo/collections/asr/live/stream.py")


def test_the_source_of_our_functions_is_found_in_our_file(nemo, built):
    code = """
        import inspect
        from nemo.collections.asr.masks import ours, theirs
        print(inspect.getsourcefile(ours), inspect.getsourcefile(theirs))
        print(inspect.getsource(ours))
        """
    files, source = output(ACTIVATE + dedent(code), nemo, built).split("\n", 1)
    assert files == f"{built}/nemo_overlay/nemo/collections/asr/masks.py {nemo}/nemo/collections/asr/masks.py"
    assert source == 'def ours():\n    return "our function"'


def test_a_traceback_through_our_function_shows_our_line(nemo, built):
    error = failure(ACTIVATE + "from nemo.collections.asr.masks import fails; fails()", nemo, built)
    assert f'File "{built}/nemo_overlay/nemo/collections/asr/masks.py", line 12, in fails' in error
    assert 'raise ValueError("in our function")' in error


def test_objects_of_our_classes_can_be_pickled_and_copied(nemo, built):
    code = """
        import copy, pickle
        from nemo.collections.asr.masks import Mask
        mask = Mask()
        mask.width = 7
        twins = pickle.loads(pickle.dumps(mask)), copy.deepcopy(mask)
        print([(type(twin) is Mask, twin.width) for twin in twins])
        """
    assert output(ACTIVATE + dedent(code), nemo, built) == "[(True, 7), (True, 7)]"


def test_a_reload_lays_our_half_over_again(nemo, built):
    code = """
        import importlib
        import nemo.collections.asr.masks as m
        del m.ours
        m.Mask.kind = "changed"
        importlib.reload(m)
        print(m.Mask.kind, m.ours())
        """
    assert output(ACTIVATE + dedent(code), nemo, built) == "ours our function"


def test_the_spec_of_an_extended_module_still_gives_the_source_of_nemo(nemo, built):
    code = """
        import copy, importlib.util, nemo.collections.asr
        spec = importlib.util.find_spec("nemo.collections.asr.masks")
        source = spec.loader.get_source("nemo.collections.asr.masks")
        print("theirs" in source, "ours" in source, copy.copy(spec.loader).path == spec.origin)
        """
    assert output(ACTIVATE + dedent(code), nemo, built) == "True False True"


def test_our_half_is_compiled_once_and_cached(nemo, built):
    code = ACTIVATE + "import sys; sys.dont_write_bytecode = False; import nemo.collections.asr.masks as m"
    output(code, nemo, built)
    cached = (built / "nemo_overlay/nemo/collections/asr/__pycache__").glob("masks.*.pyc")
    assert [file.name.split(".")[0] for file in cached] == ["masks"]


def test_starting_up_imports_nothing_but_the_overlay_itself(built):
    code = "import os, sys; before = set(sys.modules); " + ACTIVATE + "print(sorted(set(sys.modules) - before))"
    assert output(code, built) == "['nemo_overlay']"


def test_the_environment_variable_turns_it_off(nemo, built):
    assert output(ACTIVATE + SHOW_MASK, nemo, built, overlay="0") == "NeMo's"
    assert "contexts" in failure(ACTIVATE + "import nemo.collections.asr.contexts", nemo, built, overlay="0")
    assert output(ACTIVATE + SHOW_MASK, nemo, built, overlay="1") == "ours"


def test_it_can_be_taken_out_again(nemo, built):
    code = """
        import sys
        before = list(sys.meta_path)
        print(nemo_overlay.install(), nemo_overlay.install(), nemo_overlay.is_active())
        nemo_overlay.uninstall()
        from nemo.collections.asr.masks import Mask
        print(sys.meta_path == before, nemo_overlay.is_active(), Mask.kind)
        """
    code = code.replace("before = list(sys.meta_path)", "before = list(sys.meta_path); import nemo_overlay")
    assert output(code, nemo, built) == "True True True\nTrue False NeMo's"


def test_installing_after_nemo_was_imported_is_refused_with_the_modules_that_came_too_early(nemo, built):
    error = failure(SHOW_MASK + "\n" + ACTIVATE, nemo, built)
    assert (
        "must be called before modules of NeMo are imported; got nemo.collections.asr.masks imported already" in error
    )


# What our half meets when something is wrong


def test_a_failure_of_our_half_names_our_file_the_nemo_and_the_cause(nemo, build_ours):
    built = build_ours({"collections/asr/masks.py": "from nemo.collections.asr.masks import NoSuchMask\n"})
    code = """
        import sys
        for attempt in range(2):
            try:
                import nemo.collections.asr.masks
            except ImportError as error:
                print(type(error).__name__, error.name, type(error.__cause__).__name__, error)
        print("nemo.collections.asr.masks" in sys.modules, hasattr(sys.modules["nemo.collections.asr"], "masks"))
        """
    first, second, left = output(ACTIVATE + dedent(code), nemo, built).splitlines()
    assert first == second
    assert first.startswith("OverlayError nemo.collections.asr.masks ImportError ")
    file = built / "nemo_overlay/nemo/collections/asr/masks.py"
    assert f"{file}, which nemo-streaming-ssl lays over nemo.collections.asr.masks, failed: ImportError" in first
    assert f"NeMo 3.0.0 at {nemo}/nemo is within >=2.7.3,<3.1" in first
    assert left == "False False"


@pytest.mark.parametrize("text", ["def broken(:\n", "1 / 0\n"])
def test_any_exception_of_our_half_becomes_an_import_error_that_names_it(nemo, build_ours, text):
    error = failure(
        ACTIVATE + "import nemo.collections.asr.masks", nemo, build_ours({"collections/asr/masks.py": text})
    )
    assert "nemo_overlay.OverlayError: " in error.splitlines()[-1]
    assert "nemo_overlay/nemo/collections/asr/masks.py" in error.splitlines()[-1]


def test_a_failure_deeper_down_names_the_file_that_failed_and_not_those_that_import_it(nemo, build_ours):
    built = build_ours({**OURS, "collections/asr/contexts.py": "1 / 0\n"})
    error = failure(ACTIVATE + "import nemo.collections.asr.masks", nemo, built).splitlines()[-1]
    assert "contexts.py, which nemo-streaming-ssl lays over nemo.collections.asr.contexts, failed" in error
    assert "masks.py" not in error


def test_a_failure_of_nemo_itself_is_not_ours(nemo, built):
    write_files(nemo, {"nemo/collections/asr/masks.py": "raise LookupError('in NeMo')\n"})
    error = failure(ACTIVATE + "import nemo.collections.asr.masks", nemo, built)
    assert error.splitlines()[-1] == "LookupError: in NeMo"


def test_an_interrupt_while_our_half_loads_stays_an_interrupt(nemo, build_ours):
    built = build_ours({"collections/asr/masks.py": "raise KeyboardInterrupt\n"})
    code = """
        try:
            import nemo.collections.asr.masks
        except KeyboardInterrupt:
            print("interrupted")
        """
    assert output(ACTIVATE + dedent(code), nemo, built) == "interrupted"


# Packages named `nemo` that are not NVIDIA's


def test_a_namesake_of_nemo_is_left_alone(nemo, built, tmp_path):
    namesake = write_files(tmp_path / "hostile", {k: v for k, v in NEMO.items() if "package_info" not in k})
    write_files(namesake, {"nemo/__init__.py": ""})
    code = (
        ACTIVATE
        + SHOW_MASK
        + "\nimport nemo_overlay; print(nemo_overlay.laid_over)\nimport nemo.collections.asr.contexts"
    )
    done = run(code, namesake, nemo, built, flags=["-S"])
    assert done.stdout == "NeMo's\n{}\n"
    assert "ModuleNotFoundError: No module named 'nemo.collections.asr.contexts'" in done.stderr


def test_a_namesake_that_borrows_the_package_info_of_nemo_gets_nothing_for_its_own_modules(nemo, built, tmp_path):
    files = {
        "nemo/__init__.py": f"__path__.append({str(nemo / 'nemo')!r})\nfrom nemo.package_info import __version__\n",
        "nemo/collections/__init__.py": "",
        "nemo/collections/asr/__init__.py": "",
        "nemo/collections/asr/masks.py": "class Mask:\n    kind = 'hostile'\n",
    }
    namesake = write_files(tmp_path / "hostile", files)
    assert output(ACTIVATE + SHOW_MASK, namesake, nemo, built) == "hostile"


def test_folders_named_nemo_without_an_init_file_hide_nothing(nemo, built, tmp_path):
    namespace = write_files(tmp_path / "hostile", {"nemo/collections/asr/masks.py": "raise SystemExit('hostile')\n"})
    assert output(ACTIVATE + SHOW_MASK, namespace, nemo, built) == "ours"


def test_a_file_named_nemo_is_left_alone(nemo, built, tmp_path):
    namesake = write_files(tmp_path / "hostile", {"nemo.py": "kind = 'a module'\n"})
    assert output(ACTIVATE + "import nemo; print(nemo.kind)", namesake, nemo, built) == "a module"


# Other ways to find NeMo, and other import hooks

EDITABLE_NEMO = """
    import importlib.util, sys
    class EditableFinder:  # as setuptools makes them: asked after the finder for sys.path
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "nemo":
                return importlib.util.spec_from_file_location(name, {init!r})
    sys.meta_path.append(EditableFinder)
    """

HOOK = """
    import sys
    from importlib.machinery import PathFinder, SourceFileLoader
    class RecordingLoader(SourceFileLoader):
        seen = []
        def exec_module(self, module):
            self.seen.append(module.__name__)
            super().exec_module(module)
    class Hook:  # as tools that rewrite modules on import have it
        def find_spec(self, name, path=None, target=None):
            spec = PathFinder.find_spec(name, path, target) if name.startswith("nemo") else None
            if spec is not None and isinstance(spec.loader, SourceFileLoader):
                spec.loader = RecordingLoader(spec.loader.name, spec.loader.path)
                return spec
    sys.meta_path.insert(0, Hook())
    """


@pytest.mark.parametrize("folder", ["clone", "elsewhere"])
def test_it_works_on_an_editable_nemo_from_a_clone_of_ours_too(nemo, tmp_path, folder):
    clone = lay_out_clone(tmp_path / "clone", OURS)
    (tmp_path / "elsewhere").mkdir()
    editable = dedent(EDITABLE_NEMO).format(init=str(nemo / "nemo/__init__.py"))
    assert output(editable + ACTIVATE + SHOW_MASK, clone, cwd=tmp_path / folder) == "ours"


def test_it_works_from_the_root_of_a_clone_whose_folder_nemo_comes_first(nemo, tmp_path):
    clone = lay_out_clone(tmp_path / "clone", OURS)
    assert output(ACTIVATE + SHOW_MASK, nemo, cwd=clone) == "ours"


def test_it_works_on_a_nemo_in_a_zip_file(nemo, built, tmp_path):
    shutil.make_archive(str(tmp_path / "nemo"), "zip", nemo)
    assert output(ACTIVATE + SHOW_MASK, tmp_path / "nemo.zip", built) == "ours"


def test_it_works_from_inside_a_zipped_app_with_the_lines_of_our_functions(nemo, built, tmp_path):
    code = """
        import inspect, traceback
        from nemo.collections.asr.masks import fails
        print(inspect.getsourcefile(fails))
        try:
            fails()
        except ValueError:
            print(traceback.format_exc())
        """
    write_files(built, {"__main__.py": ACTIVATE + dedent(code)})
    app = shutil.make_archive(str(tmp_path / "app"), "zip", built)
    shown = output("", nemo, flags=["-S", app])
    assert shown.startswith(f"{app}/nemo_overlay/nemo/collections/asr/masks.py")
    assert 'raise ValueError("in our function")' in shown


@pytest.mark.parametrize("order", ["before", "after"])
def test_another_import_hook_and_ours_both_take_part(nemo, built, order):
    hook = dedent(HOOK)
    start = hook + ACTIVATE if order == "before" else ACTIVATE + hook
    # Like NeMo itself, which imports torch and more before any module of ours.
    code = start + "import sched\n" + SHOW_MASK + "\nprint('nemo.collections.asr.masks' in RecordingLoader.seen)"
    assert output(code, nemo, built) == "ours\nTrue"
