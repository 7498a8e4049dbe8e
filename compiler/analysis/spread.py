"""How a number of each token is spread over the tokens: least, median, most, and the mean.

In closed form the length of a row is linear in the row over a few stretches, so that the median of
a thousand million rows is found by bisection, without looking at the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import Zones

Floats = NDArray[np.float64]

_MOST_ROWS = 1 << 22


@dataclass(frozen=True)
class Spread:
    """The least, the median and the most of a number that every position has.

    The median is the lower of the two middle ones when there are two. `at_least` and `at_most` are
    positions that show the least and the most. `median` and `num_zero` are `None` where they would
    need a look at too many positions.
    """

    least: int
    median: int | None
    most: int
    mean: float
    at_least: int
    at_most: int
    num_zero: int | None

    @classmethod
    def of_counts(cls, counts: Ints, start: int = 0) -> Spread:
        """Of the numbers of all positions from `start` on.

        >>> Spread.of_counts(np.array([3, 1, 2, 2]))
        Spread(least=1, median=2, most=3, mean=2.0, at_least=1, at_most=0, num_zero=0)
        """
        middle = (len(counts) - 1) // 2
        low, high = int(counts.argmin()), int(counts.argmax())
        return cls(
            least=int(counts[low]),
            median=int(np.partition(counts, middle)[middle]),
            most=int(counts[high]),
            mean=float(counts.mean()),
            at_least=low + start,
            at_most=high + start,
            num_zero=int(np.count_nonzero(counts == 0)),
        )

    @classmethod
    def of_sample(cls, counts: Ints, chances: Floats, positions: Ints) -> Spread:
        """Of the numbers of some positions, each standing for as many as its chance says.

        >>> Spread.of_sample(np.array([5, 1, 2]), np.array([1.0, 1.0, 4.0]), np.arange(3)).median
        2
        """
        order = np.argsort(counts, kind="stable")
        half = np.cumsum(chances[order])
        middle = int(np.searchsorted(half, half[-1] / 2))
        low, high = int(counts.argmin()), int(counts.argmax())
        return cls(
            least=int(counts[low]),
            median=int(counts[order[middle]]),
            most=int(counts[high]),
            mean=float(np.average(counts, weights=chances)),
            at_least=int(positions[low]),
            at_most=int(positions[high]),
            num_zero=int(chances[counts == 0].sum()),
        )

    @classmethod
    def of_rows(cls, zones: Zones) -> Spread:
        """Of the lengths of all rows of a relation.

        >>> Spread.of_rows(Zones.zone(0, 10**9, d=(0, 4095))).median
        4096

        Raises:
            TooComplex: the closed form has too many pieces.
        """
        if len(zones.places) == 1:
            return _of_segments(zones)
        size = zones.stop - zones.start
        if size <= _MOST_ROWS:
            rows = np.arange(zones.start, zones.stop, dtype=np.int64)
            return cls.of_counts(zones.row_counts(rows), zones.start)
        (least, at_least), (most, at_most) = zones.min_row_count(), zones.max_row_count()
        mean = zones.count() / size
        return cls(least, None, most, mean, at_least, at_most, None if least == 0 else 0)


def _of_segments(zones: Zones) -> Spread:
    parts = np.array(zones.row_segments(), dtype=np.int64).reshape(-1, 4)
    start, stop, length, slope = parts.T
    last = length + slope * (stop - 1 - start)
    low, high = np.minimum(length, last), np.maximum(length, last)
    lowest, highest = int(low.argmin()), int(high.argmax())
    total = zones.stop - zones.start
    # Twice the sum over each stretch, in numbers that cannot overflow.
    counted = (length + last).astype(object) * (stop - start)
    return Spread(
        least=int(low[lowest]),
        median=_median(start, stop, length, slope, total),
        most=int(high[highest]),
        mean=float(counted.sum()) / 2 / total,
        at_least=int(start[lowest] if length[lowest] <= last[lowest] else stop[lowest] - 1),
        at_most=int(start[highest] if length[highest] >= last[highest] else stop[highest] - 1),
        num_zero=_num_up_to(0, start, stop, length, slope),
    )


def _median(start: Ints, stop: Ints, length: Ints, slope: Ints, total: int) -> int:
    """The least number that more than half of the rows do not exceed."""
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        if _num_up_to(middle, start, stop, length, slope) >= (total + 1) // 2:
            high = middle
        else:
            low = middle + 1
    return low


def _num_up_to(value: int, start: Ints, stop: Ints, length: Ints, slope: Ints) -> int:
    """How many rows have at most a length, in linear stretches of rows."""
    size = stop - start
    steps = np.abs(slope)
    # A stretch that falls, read from its end, is one that rises.
    least = np.where(slope < 0, length + slope * (size - 1), length)
    rising = (value - least) // np.maximum(steps, 1) + 1
    flat = np.where(least <= value, size, 0)
    return int(np.where(steps == 0, flat, np.clip(rising, 0, size)).sum())
