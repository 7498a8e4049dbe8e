"""What a pattern depends on, as far as its text says."""

from __future__ import annotations

from functools import lru_cache

from attnloom.compiler import typed


@lru_cache(maxsize=256)
def depends_on_head(pattern: typed.Pattern) -> bool:
    """Whether heads may differ: something asks for the head, or is drawn for each."""
    return _asks(pattern.body, "head") or any(
        _asks(parameter.default, "head")
        for parameter in pattern.parameters
        if parameter.default is not None
    )


def _asks(node: typed.Node, name: str) -> bool:
    if isinstance(node, typed.Variable):
        return node.name == name
    if isinstance(node, typed.Call) and node.primitive.is_drawn:
        return True
    return any(_asks(child, name) for child in node.children)
