"""`where`: any condition on the two positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.conditions import is_prefix, region_of
from attnloom.compiler.expressions import Expression
from attnloom.compiler.primitives.base import Bools, Form, Kind, Primitive, of_kind
from attnloom.compiler.regions import Region
from attnloom.compiler.runs import Ints


@dataclass(frozen=True, eq=False, kw_only=True)
class Where(Primitive):
    """The pairs for which a condition holds."""

    name = "where"
    forms = (
        Form(
            "where(COND)", "any condition on `i`, `j`, `n` and numbers",
            ("condition",), positional=1,
        ),
    )  # fmt: skip

    condition: Expression = of_kind(Kind.CONDITION)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        shape = np.broadcast_shapes(np.shape(i), np.shape(j))
        found = np.asarray(self.condition.evaluate(np.asarray(i), np.asarray(j))) != 0
        return np.broadcast_to(found, shape)

    def region(self, length: int) -> Region:
        return region_of(self.condition, length)

    def describe(self, length: int) -> str:
        return f"where {self.condition}"

    def is_prefix(self, length: int) -> bool:
        return is_prefix(self.condition, length)
