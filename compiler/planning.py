"""From relations to the layouts of heads: what is equal is compiled once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.bound import Bound
from attnloom.compiler.fingerprint import fingerprint
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.passes import OPTIONAL, compile_region


@dataclass(frozen=True)
class Request:
    """What is asked of the block compiler, whatever the relation.

    `heads` is how many heads will share the machine; `without` names passes to leave out.

    >>> Request(without=("tiles",))
    Traceback (most recent call last):
    ValueError: without must name passes of normalise, order, pack, dedupe, schedule, got 'tiles'
    """

    block_m: int = 128
    block_n: int = 128
    heads: int = 1
    without: Collection[str] = ()
    model: CostModel = field(default_factory=CostModel)

    def __post_init__(self) -> None:
        for name in self.without:
            if name not in OPTIONAL:
                known = ", ".join(OPTIONAL)
                raise ValueError(f"without must name passes of {known}, got {name!r}")

    def key(self, bound: Bound) -> bytes:
        """A digest of a relation and this request: equal ones give equal layouts."""
        request = (self.block_m, self.block_n, self.heads, sorted(set(self.without)), self.model)
        return fingerprint((bound.relation, bound.tokens, bound.memory, request))

    def layout(self, bound: Bound) -> HeadLayout:
        """What a head of this relation computes."""
        parts = compile_region(
            bound.region, -bound.memory, bound.tokens,
            block_m=self.block_m, block_n=self.block_n, heads=self.heads,
            model=self.model, without=self.without,
        )  # fmt: skip
        return HeadLayout.of_parts(parts)


class Planner:
    """Collects the layouts of heads; equal relations, and equal layouts, have one number."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.layouts: list[HeadLayout] = []
        self._first: Bound | None = None
        self._asked: dict[bytes, int] = {}
        self._found: dict[bytes, int] = {}

    def number(self, bound: Bound) -> int:
        """The number of the layout of a relation, which is compiled unless an equal one was.

        Raises:
            TooLarge: the plan would be beyond the limits.
        """
        if "dedupe" in self.request.without:
            self.layouts.append(self.request.layout(bound))
            return len(self.layouts) - 1
        if not self.layouts:  # most plans have one, and need no names
            self._first = bound
            self.layouts.append(self.request.layout(bound))
            return 0
        if self._first is not None:
            self._asked[self.request.key(self._first)] = 0
            self._found[self.layouts[0].fingerprint()] = 0
            self._first = None
        asked = self.request.key(bound)
        if asked not in self._asked:
            layout = self.request.layout(bound)
            number = self._found.setdefault(layout.fingerprint(), len(self.layouts))
            if number == len(self.layouts):
                self.layouts.append(layout)
            self._asked[asked] = number
        return self._asked[asked]


class Names:
    """Collects the names of relations, to name what would be compiled of them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._numbers: dict[bytes, int] = {}

    def number(self, bound: Bound) -> int:
        """The number of a relation; equal ones have one."""
        return self._numbers.setdefault(self.request.key(bound), len(self._numbers))

    def digest(self, chosen: NDArray[np.int64]) -> str:
        """A name for all of them, and for who follows which, in hexadecimal."""
        return fingerprint((tuple(self._numbers), chosen)).hex()
