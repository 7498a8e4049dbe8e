"""What a pattern depends on, as far as its text says."""

from __future__ import annotations

from functools import lru_cache

from attnloom.compiler import typed


@lru_cache(maxsize=256)
def depends_on_head(pattern: typed.Pattern) -> bool:
    """Whether heads may differ: something asks for the head, or is drawn for each."""
    return _varies(pattern, "head")


@lru_cache(maxsize=256)
def depends_on_layer(pattern: typed.Pattern) -> bool:
    """Whether layers may differ: something asks for the layer, or is drawn for each."""
    return _varies(pattern, "layer")


def _varies(pattern: typed.Pattern, name: str) -> bool:
    return _asks(pattern.body, name) or any(
        _asks(parameter.default, name)
        for parameter in pattern.parameters
        if parameter.default is not None
    )


def _asks(node: typed.Node, name: str) -> bool:
    match node:
        case typed.Variable():
            return node.name == name
        case typed.Call() if node.primitive.is_drawn and _is_drawn_for_each(node, name):
            return True
    return any(_asks(child, name) for child in node.children)


def _is_drawn_for_each(call: typed.Call, name: str) -> bool:
    """Whether links are drawn anew for each head, or for each layer; if it cannot be told, yes."""
    flag = call.arguments.get(f"per_{name}")
    if flag is None:
        return bool(call.primitive.arguments()[f"per_{name}"].default)
    return not (isinstance(flag, typed.Constant) and not flag.value)
