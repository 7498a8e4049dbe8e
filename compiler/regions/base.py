"""What every region answers, and the regions made of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.bits import ranges
from attnloom.compiler.runs import Ints, Runs, intersection, union
from attnloom.compiler.zones import Zones

Bools = NDArray[np.bool_]
Kinds = NDArray[np.uint8]
Bytes = NDArray[np.uint8]

_PAIRS_AT_ONCE = 1 << 18
"""Pairs that are looked at one by one, so few that what is worked out of them stays in cache."""

EMPTY, MIXED, FULL = 0, 1, 2
"""What a tile is: no pair, some or not known, every pair. `min` is "and", `max` is "or"."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Rectangles of one size: tile `t` has queries `rows[t]..rows[t] + height`, keys likewise.

    They are aligned: `rows[t] - origin` is a multiple of `height`, and so for the columns.
    """

    rows: Ints
    columns: Ints
    height: int
    width: int
    origin: int

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, which: Bools | Ints | slice) -> Tiles:
        return Tiles(
            self.rows[which], self.columns[which], self.height, self.width, self.origin
        )  # fmt: skip

    @property
    def row_numbers(self) -> Ints:
        """The row of tiles in which each tile stands."""
        return (self.rows - self.origin) // self.height

    @property
    def column_numbers(self) -> Ints:
        return (self.columns - self.origin) // self.width

    @property
    def queries(self) -> Ints:
        """`(num_tiles, height)`."""
        return self.rows[:, None] + np.arange(self.height)

    @property
    def keys(self) -> Ints:
        """`(num_tiles, width)`."""
        return self.columns[:, None] + np.arange(self.width)


class Region(ABC):
    """A set of pairs (query, key) of integers; immutable.

    `parts` are the regions that it is made of; a leaf has none.
    """

    parts: tuple[Region, ...] = ()

    def leaves(self) -> Iterator[Region]:
        """The regions without parts that it is made of."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()

    @abstractmethod
    def contains(self, i: Ints, j: Ints) -> Bools:
        """Whether query `i` reads key `j`, for arrays that broadcast together."""

    @abstractmethod
    def classify(self, tiles: Tiles) -> Kinds:
        """EMPTY or FULL where that is certain, else MIXED."""

    @abstractmethod
    def signature(self, tiles: Tiles) -> Ints:
        """Numbers for each tile, `(num_tiles, width)`: tiles that agree in all look the same."""

    @abstractmethod
    def runs(self, rows: Ints) -> Runs:
        """The keys that some queries read."""

    @abstractmethod
    def transposed(self) -> Region: ...

    @abstractmethod
    def in_blocks(self, size: int, length: int) -> Region:
        """The same over tokens, if positions were block numbers; both below `length` tokens."""

    @abstractmethod
    def zones(self, start: int, stop: int) -> Zones:
        """The normal form within `start..stop`.

        Raises:
            TooComplex: it has too many pieces, or none is known.
        """

    def listed(self, height: int, width: int, origin: int) -> Ints | None:
        """Codes of all tiles of a size that may hold a pair, if it comes from a list of pairs.

        A code is the tile's row and column as two numbers, `(num_tiles, 2)`.
        """
        return None

    def dense(self, tiles: Tiles) -> Bools:
        """Who reads what within each tile, `(num_tiles, height, width)`."""
        return self.contains(tiles.queries[:, :, None], tiles.keys[:, None, :])

    def spans(self, tiles: Tiles) -> tuple[Ints, Ints] | None:
        """For each row of each tile the only range of columns that it reads, if that is known.

        First and stop, `(num_tiles, height)` each, from the tile's first column on; they may lie
        beyond the tile, and a range that stops before it begins is empty.
        """
        return None

    def bits(self, tiles: Tiles) -> Bytes:
        """The same with its rows packed, `(num_tiles, height, ceil(width / 8))`."""
        found = np.zeros((len(tiles), tiles.height, -(-tiles.width // 8)), dtype=np.uint8)
        kinds = self.classify(tiles)
        found[kinds == FULL] = np.packbits(np.ones(tiles.width, np.bool_), bitorder="little")
        mixed = np.flatnonzero(kinds == MIXED)
        step = max(1, _PAIRS_AT_ONCE // (tiles.height * tiles.width))
        for first in range(0, len(mixed), step):
            some = mixed[first : first + step]
            dense = self.dense(tiles.select(some))
            found[some] = np.packbits(dense, axis=-1, bitorder="little")
        return found


class Nothing(Region):
    """No pair."""

    def contains(self, i: Ints, j: Ints) -> Bools:
        return np.zeros(np.broadcast_shapes(np.shape(i), np.shape(j)), dtype=np.bool_)

    def classify(self, tiles: Tiles) -> Kinds:
        return np.full(len(tiles), EMPTY, dtype=np.uint8)

    def signature(self, tiles: Tiles) -> Ints:
        return np.zeros((len(tiles), 0), dtype=np.int64)

    def runs(self, rows: Ints) -> Runs:
        return Runs.empty(len(rows))

    def transposed(self) -> Region:
        return self

    def in_blocks(self, size: int, length: int) -> Region:
        return self

    def zones(self, start: int, stop: int) -> Zones:
        return Zones.empty(start, stop)


@dataclass(frozen=True, eq=False)
class _Joined(Region):
    parts: tuple[Region, ...]

    def signature(self, tiles: Tiles) -> Ints:
        return np.concatenate([part.signature(tiles) for part in self.parts], axis=1)

    def transposed(self) -> Region:
        return type(self)(tuple(part.transposed() for part in self.parts))

    def in_blocks(self, size: int, length: int) -> Region:
        return type(self)(tuple(part.in_blocks(size, length) for part in self.parts))


class Either(_Joined):
    """The union of its parts."""

    def contains(self, i: Ints, j: Ints) -> Bools:
        return reduce(np.logical_or, [part.contains(i, j) for part in self.parts])

    def classify(self, tiles: Tiles) -> Kinds:
        return reduce(np.maximum, [part.classify(tiles) for part in self.parts])

    def bits(self, tiles: Tiles) -> Bytes:
        return reduce(np.bitwise_or, [part.bits(tiles) for part in self.parts])

    def runs(self, rows: Ints) -> Runs:
        return union(part.runs(rows) for part in self.parts)

    def zones(self, start: int, stop: int) -> Zones:
        return reduce(Zones.__or__, [part.zones(start, stop) for part in self.parts])


class Both(_Joined):
    """The intersection of its parts."""

    def contains(self, i: Ints, j: Ints) -> Bools:
        return reduce(np.logical_and, [part.contains(i, j) for part in self.parts])

    def classify(self, tiles: Tiles) -> Kinds:
        return reduce(np.minimum, [part.classify(tiles) for part in self.parts])

    def spans(self, tiles: Tiles) -> tuple[Ints, Ints] | None:
        found = []
        for part in self.parts:
            spans = part.spans(tiles)
            if spans is None:
                return None
            found.append(spans)
        first, stop = zip(*found, strict=True)
        return reduce(np.maximum, first), reduce(np.minimum, stop)

    def bits(self, tiles: Tiles) -> Bytes:
        spans = self.spans(tiles)
        if spans is not None:
            return ranges(*spans, tiles.width)
        return reduce(np.bitwise_and, [part.bits(tiles) for part in self.parts])

    def runs(self, rows: Ints) -> Runs:
        return intersection(part.runs(rows) for part in self.parts)

    def zones(self, start: int, stop: int) -> Zones:
        return reduce(Zones.__and__, [part.zones(start, stop) for part in self.parts])

    def listed(self, height: int, width: int, origin: int) -> Ints | None:
        found = (part.listed(height, width, origin) for part in self.parts)
        return next((tiles for tiles in found if tiles is not None), None)


@dataclass(frozen=True, eq=False)
class Minus(Region):
    """The pairs of one part that are not in another."""

    part: Region
    taken: Region

    @property
    def parts(self) -> tuple[Region, ...]:  # type: ignore[override]
        return self.part, self.taken

    def contains(self, i: Ints, j: Ints) -> Bools:
        return self.part.contains(i, j) & ~self.taken.contains(i, j)

    def classify(self, tiles: Tiles) -> Kinds:
        return np.minimum(self.part.classify(tiles), FULL - self.taken.classify(tiles))

    def signature(self, tiles: Tiles) -> Ints:
        return np.concatenate([self.part.signature(tiles), self.taken.signature(tiles)], axis=1)

    def bits(self, tiles: Tiles) -> Bytes:
        return self.part.bits(tiles) & ~self.taken.bits(tiles)

    def runs(self, rows: Ints) -> Runs:
        kept = self.part.runs(rows)
        if not len(kept.starts):
            return kept
        start, stop = int(kept.starts.min()), int(kept.stops.max())
        return intersection([kept, self.taken.runs(rows).complement(start, stop)])

    def transposed(self) -> Region:
        return Minus(self.part.transposed(), self.taken.transposed())

    def in_blocks(self, size: int, length: int) -> Region:
        return Minus(self.part.in_blocks(size, length), self.taken.in_blocks(size, length))

    def zones(self, start: int, stop: int) -> Zones:
        return self.part.zones(start, stop) - self.taken.zones(start, stop)

    def listed(self, height: int, width: int, origin: int) -> Ints | None:
        return self.part.listed(height, width, origin)
