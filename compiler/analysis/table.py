"""Tables: what every position reads, as ranges of keys, for searching many positions at once.

A search follows 64 tokens at a time, one bit each: bit `b` of a position's word says that the
position has learnt of token `b`. A layer replaces each word by the union of the words it reads.
The union over a range of keys is that of two ranges whose length is a power of two, so that a row
costs its ranges, whatever they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.by_rows import by_rows
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.regions import Region
from attnloom.compiler.runs import Ints

Words = NDArray[np.uint64]
"""`(num_words, length)`: for each position, which of `64 * num_words` tokens it has learnt of."""

MAX_RANGES = 1 << 25
"""Ranges of keys in one table."""

_FEW_ROWS, _DRAWN = 1 << 16, 256
"""Rows that are always listed, and rows that are looked at first where there are more."""

_FEW = 64
"""Ranges of one size that are united one by one."""


@dataclass(frozen=True, eq=False)
class Table:
    """Row `r` holds the keys `starts[k]..stops[k]` for `k` in `offsets[r]..offsets[r + 1]`.

    Rows and keys count from 0, memory tokens first. Within a row ranges ascend and do not touch.

    Shapes:
        offsets: `(length + 1,)`; starts, stops: `(num_ranges,)`
    """

    length: int
    offsets: Ints
    starts: Ints
    stops: Ints

    @classmethod
    def of(cls, region: Region, start: int, stop: int) -> Table:
        """All rows of a region whose pairs lie within `start..stop`.

        Raises:
            TooLarge: it has too many ranges.
        """
        if _is_hopeless(region, start, stop):
            raise TooLarge(f"the rows hold more than {MAX_RANGES:,} ranges of keys")
        counts, starts, stops = [], [], []
        total = 0
        for _, found in by_rows(region, start, stop):
            total += len(found.starts)
            if total > MAX_RANGES:
                raise TooLarge(f"the rows hold more than {MAX_RANGES:,} ranges of keys")
            counts.append(np.diff(found.offsets))
            starts.append(found.starts - start)
            stops.append(found.stops - start)
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        return cls(stop - start, offsets, np.concatenate(starts), np.concatenate(stops))

    @property
    def num_ranges(self) -> int:
        return len(self.starts)

    def row_totals(self, weights: Ints) -> Ints:
        """The weights of the keys of each row together, `(length,)`; and so is `weights`."""
        before = np.concatenate([[0], np.cumsum(weights)])
        total = np.concatenate([[0], np.cumsum(before[self.stops] - before[self.starts])])
        found: Ints = np.diff(total[self.offsets])
        return found

    def key_totals(self, weights: Ints) -> Ints:
        """The weights of the rows in which each key is together, `(length,)`."""
        change = np.zeros(self.length + 1, dtype=np.int64)
        np.add.at(change, self.starts, weights[self.rows])
        np.subtract.at(change, self.stops, weights[self.rows])
        found: Ints = np.cumsum(change)[:-1]
        return found

    def pairs(self) -> tuple[Ints, Ints]:
        """All pairs one by one: rows and keys."""
        counts = self.stops - self.starts
        first = np.cumsum(counts) - counts
        keys = np.arange(int(counts.sum())) + np.repeat(self.starts - first, counts)
        return np.repeat(self.rows, counts), keys

    def transposed(self) -> Table:
        """The table of who reads each key; by way of a matrix."""
        change = np.zeros((self.length, self.length + 1), dtype=np.int8)
        change[self.rows, self.starts] = 1
        change[self.rows, self.stops] = -1
        reads = np.cumsum(change, axis=1, dtype=np.int8, out=change)[:, :-1].T
        edges = np.diff(np.pad(reads, ((0, 0), (1, 1))), axis=1)
        rows, starts = np.nonzero(edges == 1)
        offsets = np.searchsorted(rows, np.arange(self.length + 1))
        return Table(self.length, offsets, starts, np.nonzero(edges == -1)[1])

    @cached_property
    def rows(self) -> Ints:
        """The row of each range."""
        return np.repeat(np.arange(self.length, dtype=np.int64), np.diff(self.offsets))

    @cached_property
    def _by_size(self) -> tuple[tuple[int, Ints, Ints, Ints], ...]:
        """The ranges grouped by the largest power of two that fits: exponent, range, two starts."""
        exponents = np.frexp((self.stops - self.starts).astype(np.float64))[1] - 1
        found = []
        for exponent in np.unique(exponents).tolist():
            ranges = np.flatnonzero(exponents == exponent)
            last = self.stops[ranges] - (1 << exponent)
            found.append((exponent, ranges, self.starts[ranges], last))
        return tuple(found)

    def gather(self, words: Words) -> Words:
        """For each row the union of the words of its keys.

        >>> from attnloom.compiler.regions import Band, Bands
        >>> window = Table.of(Bands.of(Band(0, 3, 0, 3, 0, 1)), 0, 4)
        >>> window.gather(np.array([[1, 2, 4, 8]], dtype=np.uint64)).tolist()
        [[1, 3, 6, 12]]
        """
        found = np.zeros_like(words)
        if self.num_ranges:
            some = np.flatnonzero(np.diff(self.offsets))
            united = np.empty(self.num_ranges, dtype=np.uint64)
            for each, own in zip(words, found, strict=True):
                self._unite(each, united)
                own[some] = np.bitwise_or.reduceat(united, self.offsets[some])
        return found

    def _unite(self, words: Words, united: Words) -> None:
        """The union of the words in each range; one word for each position."""
        largest = max((e for e, ranges, *_ in self._by_size if len(ranges) > _FEW), default=0)
        level, reached = words.copy(), 0
        for exponent, ranges, first, last in self._by_size:
            if exponent > largest:  # too few to be worth their level
                stops = last + (1 << exponent)
                for number, start, stop in zip(ranges, first, stops, strict=True):
                    united[number] = np.bitwise_or.reduce(words[start:stop])
                continue
            while reached < exponent:  # the unions over all stretches of the next power of two
                shift = 1 << reached
                level[:-shift] |= level[shift:]
                reached += 1
            united[ranges] = level[first] | level[last] if exponent else level[first]


def _is_hopeless(region: Region, start: int, stop: int) -> bool:
    """Whether most rows have many more ranges than fit in a table; asked of some, drawn at random.

    Were it so of less than a quarter of the rows, half of those drawn would not say so.
    """
    if stop - start <= _FEW_ROWS:
        return False
    rows = np.sort(np.random.default_rng(0).integers(start, stop, size=_DRAWN))
    counts = np.diff(region.runs(np.unique(rows)).offsets)
    return bool(np.median(counts) * (stop - start) > 4 * MAX_RANGES)
