"""Grains: a layer's positions as a table of what each reads, tokens or whole blocks of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnloom.compiler.analysis.table import Table
from attnloom.compiler.regions import Region
from attnloom.compiler.runs import Ints

_MOST_DENSE = 8192
"""Positions up to which a table is turned over as a matrix."""


@dataclass(frozen=True, eq=False)
class Grain:
    """A relation over positions that stand for `block` tokens each, the last perhaps for fewer.

    All pairs lie within `start..stop`, and `tokens` counts all tokens, memory too.
    """

    region: Region
    start: int
    stop: int
    block: int
    tokens: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @cached_property
    def weights(self) -> Ints:
        """How many tokens each position stands for."""
        found = np.full(self.length, self.block, dtype=np.int64)
        found[-1] = self.tokens - self.block * (self.length - 1)
        return found

    @cached_property
    def table(self) -> Table:
        """What each position reads."""
        return Table.of(self.region, self.start, self.stop)

    @cached_property
    def read_by(self) -> Table:
        """Which positions read each one."""
        if self.length <= _MOST_DENSE:
            return self.table.transposed()
        return Table.of(self.region.transposed(), self.start, self.stop)

    def per_token(self, counts: Ints) -> Ints:
        """A number of each position as one of each token."""
        return counts if self.block == 1 else np.repeat(counts, self.weights)
