"""Relations at a length: trees of primitives and set operations, which define a pattern's meaning.

`allows` is worked out from the definitions of the primitives alone. `region` is the fast form of
the same pairs. Positions are token numbers; only `WithMemory` has negative ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.primitives.base import Primitive
from attnloom.compiler.regions import Band, Bands, Nothing, Region, both, either, minus, square
from attnloom.compiler.runs import Ints

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Relation(ABC):
    """A set of pairs of positions `0..length`: tokens, or blocks inside of `blocks`."""

    length: int

    @abstractmethod
    def allows(self, i: Ints, j: Ints) -> Bools:
        """Whether query `i` reads key `j`, for arrays of positions that broadcast together."""

    @cached_property
    def region(self) -> Region:
        """The same pairs in the form that is fast to ask."""
        return self._region()

    @abstractmethod
    def _region(self) -> Region: ...

    @property
    def is_prefix(self) -> bool:
        """Whether every query reads the first so many keys, not by the accident of a length."""
        return False

    @property
    def children(self) -> tuple[Relation, ...]:
        """The relations it is made of."""
        return ()


@dataclass(frozen=True, eq=False)
class Leaf(Relation):
    """A primitive."""

    primitive: Primitive

    def allows(self, i: Ints, j: Ints) -> Bools:
        shape = np.broadcast_shapes(np.shape(i), np.shape(j))
        return np.broadcast_to(self.primitive.allows(i, j, self.length), shape)

    def _region(self) -> Region:
        return both(self.primitive.region(self.length), square(self.length))

    @property
    def is_prefix(self) -> bool:
        return self.primitive.is_prefix(self.length)


@dataclass(frozen=True, eq=False)
class Union(Relation):
    """The pairs of any part; none, if there is no part."""

    parts: tuple[Relation, ...]

    @property
    def children(self) -> tuple[Relation, ...]:
        return self.parts

    def allows(self, i: Ints, j: Ints) -> Bools:
        none = np.zeros(np.broadcast_shapes(np.shape(i), np.shape(j)), dtype=np.bool_)
        return reduce(np.logical_or, (part.allows(i, j) for part in self.parts), none)

    def _region(self) -> Region:
        return either(*(part.region for part in self.parts)) if self.parts else Nothing()

    @property
    def is_prefix(self) -> bool:
        return bool(self.parts) and all(part.is_prefix for part in self.parts)


@dataclass(frozen=True, eq=False)
class Intersection(Relation):
    """The pairs of all parts, of which there is at least one."""

    parts: tuple[Relation, ...]

    @property
    def children(self) -> tuple[Relation, ...]:
        return self.parts

    def allows(self, i: Ints, j: Ints) -> Bools:
        return reduce(np.logical_and, (part.allows(i, j) for part in self.parts))

    def _region(self) -> Region:
        return both(*(part.region for part in self.parts))

    @property
    def is_prefix(self) -> bool:
        return all(part.is_prefix for part in self.parts)


@dataclass(frozen=True, eq=False)
class Difference(Relation):
    """The pairs of one relation without those of another."""

    part: Relation
    taken: Relation

    @property
    def children(self) -> tuple[Relation, ...]:
        return self.part, self.taken

    def allows(self, i: Ints, j: Ints) -> Bools:
        return self.part.allows(i, j) & ~self.taken.allows(i, j)

    def _region(self) -> Region:
        return minus(self.part.region, self.taken.region)


@dataclass(frozen=True, eq=False)
class Complement(Relation):
    """All other pairs of positions."""

    part: Relation

    @property
    def children(self) -> tuple[Relation, ...]:
        return (self.part,)

    def allows(self, i: Ints, j: Ints) -> Bools:
        return ~self.part.allows(i, j)

    def _region(self) -> Region:
        return minus(square(self.length), self.part.region)


@dataclass(frozen=True, eq=False)
class Transposed(Relation):
    """The pairs the other way round."""

    part: Relation

    @property
    def children(self) -> tuple[Relation, ...]:
        return (self.part,)

    def allows(self, i: Ints, j: Ints) -> Bools:
        return self.part.allows(j, i)

    def _region(self) -> Region:
        return self.part.region.transposed()


@dataclass(frozen=True, eq=False)
class OfBlocks(Relation):
    """A relation of blocks: two tokens are a pair when their blocks are."""

    part: Relation
    size: int

    @property
    def children(self) -> tuple[Relation, ...]:
        return (self.part,)

    def allows(self, i: Ints, j: Ints) -> Bools:
        return self.part.allows(i // self.size, j // self.size)

    def _region(self) -> Region:
        return both(self.part.region.in_blocks(self.size, self.length), square(self.length))

    @property
    def is_prefix(self) -> bool:
        return self.part.is_prefix


@dataclass(frozen=True, eq=False)
class WithMemory(Relation):
    """A relation of tokens and the links of memory tokens, which stand at `-memory..0`.

    A pair with memory is in it when the query is memory and memory reads, or the key is memory and
    memory is read. If the tokens are kept to what lies before them (`is_causal`), so is memory,
    which stands before token 0: memory token `k` reads only memory tokens up to itself.
    """

    tokens: Relation
    memory: int
    reads: bool
    is_read: bool
    is_causal: bool

    @property
    def children(self) -> tuple[Relation, ...]:
        return (self.tokens,)

    def allows(self, i: Ints, j: Ints) -> Bools:
        found = (i >= 0) & (j >= 0)
        found &= self.tokens.allows(np.maximum(i, 0), np.maximum(j, 0))
        with_memory = ((i < 0) & self.reads) | ((j < 0) & self.is_read)
        if self.is_causal:
            with_memory &= j <= i
        return np.asarray(found | with_memory)

    def _region(self) -> Region:
        first, last = -self.memory, self.length - 1
        least = 0 if self.is_causal else -self.memory - self.length
        bands = []
        if self.reads:
            bands.append(Band(i1=first, i2=-1, j1=first, j2=last, d1=least))
        if self.is_read:
            bands.append(Band(i1=first, i2=last, j1=first, j2=-1, d1=least))
        return either(both(self.tokens.region, square(self.length)), Bands.of(*bands))
