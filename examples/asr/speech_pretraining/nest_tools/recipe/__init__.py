"""What a model or a training config says of its contexts and masks, without training or weights."""

from nest_tools.recipe.recipe import Recipe

__all__ = ["Recipe"]
