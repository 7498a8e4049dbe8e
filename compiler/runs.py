"""Runs: for each of many rows, the sorted disjoint half-open ranges of what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Runs:
    """Row `r` holds the ranges `starts[k]..stops[k]` for `k` in `offsets[r]..offsets[r + 1]`.

    Within a row they ascend, and neighbours do not touch, so equal rows have equal runs.

    >>> runs = Runs.of_ranges(2, row=[0, 0, 1], start=[4, 0, 1], stop=[6, 4, 2])
    >>> runs.row(0), runs.row(1), runs.lengths().tolist()
    ([(0, 6)], [(1, 2)], [6, 1])

    Shapes:
        offsets: `(num_rows + 1,)`; starts, stops: `(num_runs,)`
    """

    offsets: Ints
    starts: Ints
    stops: Ints

    @classmethod
    def empty(cls, num_rows: int) -> Runs:
        none = np.zeros(0, dtype=np.int64)
        return cls(np.zeros(num_rows + 1, dtype=np.int64), none, none)

    @classmethod
    def of_ranges(
        cls,
        num_rows: int,
        row: Sequence[int] | Ints,
        start: Sequence[int] | Ints,
        stop: Sequence[int] | Ints,
    ) -> Runs:
        """From ranges in any order, which may overlap or be empty."""
        rows, starts, stops = (np.asarray(part, dtype=np.int64) for part in (row, start, stop))
        return _combine(num_rows, rows, starts, stops, need=1)

    @classmethod
    def one_each(cls, starts: Ints, stops: Ints) -> Runs:
        """At most one range a row."""
        some = starts < stops
        offsets = np.concatenate([[0], np.cumsum(some)]).astype(np.int64)
        return cls(offsets, starts[some], stops[some])

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def rows(self) -> Ints:
        """The row of each run, `(num_runs,)`."""
        return np.repeat(np.arange(self.num_rows, dtype=np.int64), np.diff(self.offsets))

    def row(self, number: int) -> list[tuple[int, int]]:
        """The runs of one row."""
        own = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        return list(zip(self.starts[own].tolist(), self.stops[own].tolist(), strict=True))

    def lengths(self) -> Ints:
        """How much each row holds, `(num_rows,)`."""
        total = np.concatenate([[0], np.cumsum(self.stops - self.starts)])
        return np.diff(total[self.offsets])

    def clipped(self, start: int, stop: int) -> Runs:
        """The part of each row within `start..stop`."""
        starts, stops = np.maximum(self.starts, start), np.minimum(self.stops, stop)
        some = starts < stops
        counts = np.bincount(self.rows[some], minlength=self.num_rows)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Runs(offsets, starts[some], stops[some])

    def complement(self, start: int, stop: int) -> Runs:
        """What each row lacks of `start..stop`."""
        inside = self.clipped(start, stop)
        # Between each row's runs lie gaps; before the first and after the last one more each.
        edges = np.arange(self.num_rows, dtype=np.int64)
        rows = np.concatenate([edges, inside.rows])
        starts = np.concatenate([np.full(self.num_rows, start), inside.stops])
        order = np.argsort(rows, kind="stable")
        rows, starts = rows[order], starts[order]
        stops = np.concatenate([inside.starts, np.full(self.num_rows, stop)])
        order = np.argsort(np.concatenate([inside.rows, edges]), kind="stable")
        stops = stops[order]
        some = starts < stops
        counts = np.bincount(rows[some], minlength=self.num_rows)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Runs(offsets, starts[some], stops[some])

    def shifted(self, by: int) -> Runs:
        return Runs(self.offsets, self.starts + by, self.stops + by)

    def pick(self, places: Ints) -> Ints:
        """The `places[r, t]`-th element of row `r`; anything where the row is shorter.

        Shapes:
            places: `(num_rows, count)`, and so the result
        """
        before = np.concatenate([[0], np.cumsum(self.stops - self.starts)])
        absolute = places + before[self.offsets[:-1]][:, None]
        run = np.searchsorted(before, absolute, side="right") - 1
        run = np.minimum(run, len(self.starts) - 1)
        found: Ints = self.starts[run] + (absolute - before[run])
        return found


def union(parts: Iterable[Runs]) -> Runs:
    """What any of the parts holds, row by row."""
    return _together(list(parts), everywhere=False)


def intersection(parts: Iterable[Runs]) -> Runs:
    """What all of the parts hold, row by row.

    >>> a = Runs.of_ranges(1, [0], [0], [5])
    >>> b = Runs.of_ranges(1, [0, 0], [3, 7], [6, 9])
    >>> intersection([a, b]).row(0)
    [(3, 5)]
    """
    return _together(list(parts), everywhere=True)


def _together(parts: list[Runs], *, everywhere: bool) -> Runs:
    if len(parts) == 1:
        return parts[0]
    rows, starts, stops = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("rows", "starts", "stops")
    )
    return _combine(parts[0].num_rows, rows, starts, stops, need=len(parts) if everywhere else 1)


def _combine(num_rows: int, rows: Ints, starts: Ints, stops: Ints, *, need: int) -> Runs:
    """Where at least `need` of the ranges overlap."""
    some = starts < stops
    rows, starts, stops = rows[some], starts[some], stops[some]
    if not len(rows):
        return Runs.empty(num_rows)
    low = int(starts.min())
    span = int(stops.max()) - low + 1
    if num_rows * span >= 1 << 61:
        raise OverflowError(f"{num_rows} rows over {span} positions do not fit 64 bits")
    base = rows * span - low
    keys = np.concatenate([base + starts, base + stops])
    change = np.ones(len(keys), dtype=np.int64)
    change[len(starts) :] = -1
    # At one place openings come before closings, so that ranges that touch become one.
    order = np.argsort(2 * keys + (change < 0), kind="stable")
    keys, change = keys[order], change[order]
    deep = np.cumsum(change) >= need
    before = np.concatenate([[False], deep[:-1]])
    opens, closes = keys[deep & ~before], keys[before & ~deep]
    some = opens < closes
    opens, closes = opens[some], closes[some]
    row = opens // span
    offsets = np.searchsorted(row, np.arange(num_rows + 1))
    return Runs(offsets.astype(np.int64), opens - row * span + low, closes - row * span + low)
