"""The examples in docstrings of masking, tokens and their losses run and give what they show."""

import doctest
import importlib

import pytest

SSL = "nemo.collections.asr.modules.ssl_modules"
MODULES = [
    f"{SSL}.blind_runs",
    f"{SSL}.block_sampling",
    f"{SSL}.mask_audit",
    f"{SSL}.mask_recipe",
    f"{SSL}.mask_windows",
    f"{SSL}.masking_ways",
    f"{SSL}.token_distribution",
    "nemo.collections.asr.losses.ssl_losses.masked_targets",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed
