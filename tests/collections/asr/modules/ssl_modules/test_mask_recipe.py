"""A mask recipe is checked when it is made, and is a value afterwards."""

import dataclasses
import inspect
import math

import numpy as np
import pytest

from nemo.collections.asr.modules import RandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("mask_prob", 1.5, ValueError, "mask_prob must be a number from 0 to 1; got 1.5"),
        ("mask_prob", math.nan, ValueError, "mask_prob must be .* got nan"),
        ("mask_prob", True, TypeError, "mask_prob must be .* got True of type bool"),
        ("block_size", 0, ValueError, "block_size must be a whole number of frames >= 1; got 0"),
        ("block_size", 8.0, TypeError, "block_size must be .* got 8.0 of type float"),
        ("max_mask_ratio", -0.1, ValueError, "max_mask_ratio must be a number from 0 to 1; got -0.1"),
        ("allow_overlap", None, TypeError, "allow_overlap must be True or False; got None"),
        ("allow_overlap", "false", TypeError, "allow_overlap must be True or False; got 'false'"),
    ],
)
def test_a_field_is_named_with_its_value_and_what_is_allowed(field, value, error, message):
    with pytest.raises(error, match=message):
        MaskRecipe(**{field: value})
    with pytest.raises(error, match=message):
        dataclasses.replace(MaskRecipe(), **{field: value})


def test_recipes_are_values():
    recipe = MaskRecipe(mask_prob=1, block_size=np.int64(8))
    assert recipe == MaskRecipe(1.0, 8) and hash(recipe) == hash(MaskRecipe(1.0, 8))
    assert type(recipe.mask_prob) is float and type(recipe.block_size) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.block_size = 4


def test_the_defaults_are_those_of_the_masking_module():
    parameters = inspect.signature(RandomBlockMasking).parameters
    assert dataclasses.asdict(MaskRecipe()) == {
        field.name: parameters[field.name].default for field in dataclasses.fields(MaskRecipe)
    }
