"""The primitives, one file each, found by being here: adding one is adding its file."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from attnloom.compiler.primitives.base import Primitive


@cache
def primitives() -> dict[str, tuple[type[Primitive], ...]]:
    """Every primitive by its name; some names mean another thing inside a grid.

    >>> [one.in_grid for one in primitives()["neighborhood"]]
    [False, True]
    """
    found: dict[str, list[type[Primitive]]] = {}
    for module in sorted(one.name for one in pkgutil.iter_modules(__path__)):
        members = vars(importlib.import_module(f"{__name__}.{module}")).values()
        for member in members:
            if (
                isinstance(member, type)
                and issubclass(member, Primitive)
                and member.__module__ == f"{__name__}.{module}"
                and hasattr(member, "name")
            ):
                found.setdefault(member.name, []).append(member)
    order = sorted(found)
    return {name: tuple(sorted(found[name], key=lambda one: one.in_grid)) for name in order}
