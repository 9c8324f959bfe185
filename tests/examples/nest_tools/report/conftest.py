"""The recipe of the tiny model, for all tests of reports."""

import pytest
from nest_tools.recipe import Recipe


@pytest.fixture(scope="session")
def recipe(tiny_model) -> Recipe:
    return Recipe.of_model(tiny_model())
