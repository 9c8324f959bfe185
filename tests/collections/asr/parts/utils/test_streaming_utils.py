"""The door: what users import from it, beside all that NeMo has there."""

import ast
import inspect
from pathlib import Path

import pytest

from nemo.collections.asr.parts.attention_context import helpers
from nemo.collections.asr.parts.streaming import encoder_stream, offline
from nemo.collections.asr.parts.utils import streaming_utils

HOMES = {
    "set_dynamic_context": helpers,
    "sync_masking_context_with_attention": helpers,
    "dynamic_context": helpers,
    "release_dynamic_context": helpers,
    "EncoderStream": encoder_stream,
    "encode": offline,
}


@pytest.mark.parametrize("name", HOMES)
def test_the_interface_is_the_thing_itself(name):
    value = getattr(streaming_utils, name)
    assert value is getattr(HOMES[name], name) and value.__module__ == HOMES[name].__name__


def test_all_that_nemo_has_there_is_still_there():
    nemos_file = Path(inspect.getsourcefile(streaming_utils.CacheAwareStreamingAudioBuffer))
    tree = ast.parse(nemos_file.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert {"CacheAwareStreamingAudioBuffer", "FrameBatchASR", "longest_common_subsequence_merge"} <= names
    assert not names & HOMES.keys(), "a name of ours would hide one of NeMo's"
    for name in names:
        assert getattr(streaming_utils, name).__module__ == streaming_utils.__name__, name
