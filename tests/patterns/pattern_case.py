"""A bundled pattern with parameters, and what it should be at every length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pattern_masks import Mask

import attnloom

Place = dict[str, int]
Definition = Callable[..., Any]
"""Called with `n`."""


@dataclass(frozen=True)
class Case:
    """A pattern with parameters, at a head and a layer, and what it should be at length n."""

    name: str
    params: dict[str, Any]
    definition: Definition
    at: Place = field(default_factory=dict)
    inputs: Callable[[int], dict[str, Any]] | None = None

    def found(self, n: int) -> Mask:
        inputs = self.inputs(n) if self.inputs else None
        return attnloom.load(self.name, **self.params).mask(n, inputs=inputs, **self.at)


def case(
    name: str,
    params: dict[str, Any],
    definition: Definition,
    inputs: Callable[[int], dict[str, Any]] | None = None,
    **at: int,
) -> Case:
    return Case(name, params, definition, at, inputs)


# Sizes are small enough for every part of a pattern to be met.
