"""Modules under the names of an earlier version."""

import importlib
import sys
from textwrap import dedent

import pytest
from overlay_trees import ACTIVATE, NEMO, lay_out_built, output, run, write_files

from nemo_overlay.moved import MOVED, RENAMED

UTILS = "nemo.collections.asr.parts.utils"

# Module -> its public names, as version 0.1.0 had them.
NAMES_OF_0_1_0 = {
    "attention_context": ["CONTEXT_PRESETS", "AttentionContext", "ContextSampler"],
    "conformer_step": ["ConformerStep", "StepState"],
    "context_drawing": ["ContextDrawing", "context_drawing_of"],
    "context_metrics": ["ContextTotals"],
    "encoder_stream": ["EncoderStream", "StreamMemory"],
    "graphed_step": ["GraphedStep"],
    "online_features": ["OnlineFeatures"],
    "ragged_queue": ["RaggedQueue"],
    "repeatable_data": ["RepeatableLoader", "make_repeatable"],
    "sharding": ["full_state_dict", "is_sharded", "shard_weights"],
    "stock_nemo": ["save_for_stock_nemo", "stock_config"],
    "subsampling_step": ["StreamEdges", "SubsamplingStep"],
    "warn_once": ["warn_once"],
    "weight_report": ["reported_loading"],
}


@pytest.mark.parametrize("module", NAMES_OF_0_1_0)
def test_the_names_of_0_1_0_can_be_imported_from_where_they_were(module):
    name = f"{UTILS}.{module}"
    importlib.import_module(UTILS)  # whose own imports change which warnings are shown
    sys.modules.pop(name, None)
    if name in MOVED:
        with pytest.warns(DeprecationWarning, match=f"^{name} has moved to nemo[.]") as warned:
            old = importlib.import_module(name)
        assert [warning.filename for warning in warned if name in str(warning.message)] == [importlib.__file__]
    else:
        old = importlib.import_module(name)
    targets = [importlib.import_module(target) for target in MOVED.get(name, [name])]
    for public in NAMES_OF_0_1_0[module]:
        now = RENAMED.get(public, public)
        (found,) = {id(getattr(target, now)) for target in targets if hasattr(target, now)}
        assert id(getattr(old, public)) == found
    assert set(NAMES_OF_0_1_0[module]) <= set(old.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        old.no_such_name  # noqa: B018
    with pytest.raises(AttributeError, match="__path__"):  # it is no package, whatever its target is
        old.__path__  # noqa: B018


def test_no_module_is_moved_to_another_that_moved():
    assert not {target for targets in MOVED.values() for target in targets} & set(MOVED)


# With stand-ins: an old module GraphedStep, and where it is now.
OLD, NOW = f"{UTILS}.graphed_step", f"{UTILS.removesuffix('.utils')}.streaming.graphed_step"
OURS = {
    "collections/asr/parts/streaming/__init__.py": "",
    "collections/asr/parts/streaming/graphed_step.py": """\
        __all__ = ["GraphedStep"]
        class GraphedStep:
            pass
        """,
}
PACKAGES = {"nemo/collections/asr/parts/__init__.py": "", "nemo/collections/asr/parts/utils/__init__.py": ""}


@pytest.fixture
def trees(tmp_path):
    nemo = write_files(tmp_path / "NeMo", {**NEMO, **PACKAGES})
    return nemo, lay_out_built(tmp_path / "built", OURS)


def test_the_warning_shows_the_line_of_the_import(trees, tmp_path):
    write_files(tmp_path, {"user.py": f"{ACTIVATE}from {OLD} import GraphedStep\n"})
    done = run("", *trees, flags=["-S", "-W", "always", str(tmp_path / "user.py")])
    assert done.returncode == 0, done.stderr
    assert f"user.py:2: DeprecationWarning: {OLD} has moved to {NOW}" in done.stderr


def test_a_pickle_of_the_old_module_can_be_read_and_stars_import_all_names(trees):
    code = f"""
        import pickle
        from {OLD} import *
        from {NOW} import GraphedStep as now
        text = pickle.dumps(now(), protocol=0).replace(b"{NOW}", b"{OLD}")
        print(GraphedStep is now, type(pickle.loads(text)) is now)
        """
    assert output(ACTIVATE + dedent(code), *trees) == "True True"


def test_a_module_of_nemo_under_the_old_name_is_nemos(trees):
    nemo, built = trees
    write_files(nemo, {f"{OLD.replace('.', '/')}.py": "GraphedStep = 'theirs'\n"})
    assert output(ACTIVATE + f"from {OLD} import GraphedStep; print(GraphedStep)", nemo, built) == "theirs"


@pytest.mark.parametrize("overlay", ["0", "1"])
def test_other_missing_modules_are_missing_still(trees, overlay):
    code = f"""
        try:
            import {UTILS}.no_such_module
        except ModuleNotFoundError as error:
            print(error.name)
        """
    assert output(ACTIVATE + dedent(code), *trees, overlay=overlay) == f"{UTILS}.no_such_module"
