"""Walking from a single position, range by range: for routes, and where there are very many hops.

What is new at each level is a few ranges in most patterns, so a level costs its ranges, and a whole
walk no more than the rows that it has come by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.regions import Region
from attnloom.compiler.regions.base import Bools
from attnloom.compiler.runs import Ints
from attnloom.compiler.tokens import merged

_ROWS_AT_ONCE = 1 << 16
_FEW = 64


@dataclass(frozen=True, eq=False)
class Level:
    """Positions as ascending disjoint ranges.

    Shapes:
        starts, stops: `(num_ranges,)`
    """

    starts: Ints
    stops: Ints

    @property
    def size(self) -> int:
        return int((self.stops - self.starts).sum())

    def contains(self, position: int) -> bool:
        at = int(np.searchsorted(self.starts, position, side="right")) - 1
        return at >= 0 and position < int(self.stops[at])

    def positions(self) -> Ints:
        """All of them, one by one."""
        counts = self.stops - self.starts
        first = np.cumsum(counts) - counts
        found: Ints = np.arange(int(counts.sum())) + np.repeat(self.starts - first, counts)
        return found

    def common(self, other: Level) -> int | None:
        """The first position that two levels share.

        >>> odd = Level(np.array([1, 3, 5]), np.array([2, 4, 6]))
        >>> odd.common(Level(np.array([4]), np.array([9])))
        5
        """
        few, many = sorted((self, other), key=lambda one: len(one.starts))
        at = np.searchsorted(many.stops, few.starts, side="right")
        inside = at < len(many.starts)
        first = np.maximum(few.starts[inside], many.starts[at[inside]])
        met = np.flatnonzero(first < few.stops[inside])
        return int(first[met[0]]) if len(met) else None

    def meet(self, ranges: list[tuple[int, int]]) -> int | None:
        """The first position that is also in one of some ranges."""
        for start, stop in ranges:
            at = int(np.searchsorted(self.stops, start, side="right"))
            if at < len(self.starts) and self.starts[at] < stop:
                return max(start, int(self.starts[at]))
        return None


def levels(region: Region, first: int, start: int, stop: int) -> Iterator[Level]:
    """The positions that are 0, 1, 2, ... reads away from one, until there are no new ones.

    >>> from attnloom.compiler.regions import Band, Bands
    >>> window = Bands.of(Band(0, 99, 0, 99, d1=0, d2=40))
    >>> [(int(one.starts[0]), int(one.stops[0])) for one in levels(window, 99, 0, 100)]
    [(99, 100), (59, 99), (19, 59), (0, 19)]
    """
    seen = np.zeros(stop - start, dtype=np.bool_)
    level = Level(np.array([first], dtype=np.int64), np.array([first + 1], dtype=np.int64))
    while len(level.starts):
        _mark(seen, level, start)
        yield level
        level = _next(region, level, seen, start)


def _mark(seen: Bools, level: Level, start: int) -> None:
    if len(level.starts) > _FEW:
        seen[level.positions() - start] = True
        return
    for low, high in zip(level.starts.tolist(), level.stops.tolist(), strict=True):
        seen[low - start : high - start] = True


def _next(region: Region, level: Level, seen: Bools, start: int) -> Level:
    """What the positions of a level read that has not been seen."""
    rows = level.positions()
    parts = []
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        found = region.runs(rows[at : at + _ROWS_AT_ONCE])
        parts.append((found.starts, found.stops))
    starts, stops = (np.concatenate(ends) for ends in zip(*parts, strict=True))
    if not len(starts):
        return Level(starts, stops)
    starts, stops = merged(starts, stops)
    if len(starts) <= _FEW:
        parts = [
            _fresh(seen[low - start : high - start], low)
            for low, high in zip(starts.tolist(), stops.tolist(), strict=True)
        ]
        first, last = (np.concatenate(ends) for ends in zip(*parts, strict=True))
        return Level(first, last)
    low, high = int(starts[0]), int(stops[-1])
    change = np.zeros(high - low + 1, dtype=np.int8)
    change[starts - low] = 1
    change[stops - low] = -1
    covered = np.cumsum(change, dtype=np.int8)[:-1] > 0
    return Level(*_fresh(seen[low - start : high - start] | ~covered, low))


def _fresh(seen: Bools, first: int) -> tuple[Ints, Ints]:
    """The ranges of positions that have not been seen; the first of them all stands at `first`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], seen.view(np.int8), [1]])))
    return edges[0::2] + first, edges[1::2] + first
