"""A plugin of mypy: attributes that a `torch.nn.Module` gets while running are `Any`.

torch declares them as `Tensor | Module`, so that every use of a submodule that is not declared in its class (and those
of NeMo's classes never are) would be an error.
"""

from collections.abc import Callable

from mypy.plugin import AttributeContext, Plugin
from mypy.types import AnyType, Type, TypeOfAny, UnionType, get_proper_type


class ModuleAttributes(Plugin):
    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        return undeclared_as_any if fullname.startswith("torch.nn.modules.module.Module.") else None


def undeclared_as_any(context: AttributeContext) -> Type:
    declared = get_proper_type(context.default_attr_type)
    if isinstance(declared, UnionType) and {str(item) for item in declared.items} == UNDECLARED:
        return AnyType(TypeOfAny.special_form)
    return declared


UNDECLARED = {"torch._tensor.Tensor", "torch.nn.modules.module.Module"}


def plugin(version: str) -> type[Plugin]:
    return ModuleAttributes
