"""Single rows of a union: their runs of keys, their lengths, the longest and the shortest one.

In a box the length of row i is a product over the digits of i, and each factor grows by one, stays
or shrinks by one from one value of the digit to the next. Hence, over disjoint boxes, the longest
and the shortest row stand at the ends of linear stretches, and no other row need be looked at.
"""

from __future__ import annotations

import numpy as np

from attnloom.compiler.places import Places, digits_of
from attnloom.compiler.zone_arrays import SIGNS, Ints, TooComplex, all_along, expand_ranges

MAX_RUNS = 1_000_000
"""Runs of keys listed for one row."""

MAX_WORK = 2**25
"""Row lengths evaluated, times boxes."""

_CHUNK = 2**20


def key_ranges(caps: Ints, row: Ints) -> Ints:
    """The digits of the keys that a row reads in each box it meets, `(num, num_digits, 2)`."""
    first = np.maximum(-caps[..., 2], row - caps[..., 5])
    last = np.minimum(caps[..., 3], row + caps[..., 4])
    meets = (row >= -caps[..., 0]) & (row <= caps[..., 1]) & (first <= last)
    keys: Ints = np.stack([first, last], axis=-1)[all_along(meets, -1)]
    return keys


def runs(ranges: Ints, places: Places) -> list[tuple[int, int]]:
    """The maximal runs (start, stop) of positions whose digits all lie in one row of `ranges`."""
    starts, stops = ranges[:, 0, 0], ranges[:, 0, 1] + 1
    owner = np.arange(len(ranges))
    for t, place in enumerate(places[1:], start=1):
        first, last = ranges[owner, t, 0], ranges[owner, t, 1]
        whole = stops - starts == place  # the blocks follow each other without a gap
        counts = np.where(whole, 1, last - first + 1)
        if float(counts.sum(dtype=np.float64)) > MAX_RUNS:
            raise TooComplex(f"a row of over {MAX_RUNS:,} runs")
        again, begin = expand_ranges(first, counts)
        end = np.where(whole[again], last[again], begin)
        starts, stops = starts[again] + begin * place, stops[again] + end * place
        owner = owner[again]
    return merged_runs(starts, stops)


def merged_runs(starts: Ints, stops: Ints) -> list[tuple[int, int]]:
    """Sort runs and join those that touch or overlap.

    >>> merged_runs(np.array([4, 0, 2]), np.array([6, 2, 3]))
    [(0, 3), (4, 6)]
    """
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    gap = np.flatnonzero(starts[1:] > reach[:-1])
    begin = np.concatenate([starts[:1], starts[gap + 1]])
    end = np.concatenate([reach[gap], reach[-1:]])
    return list(zip(begin.tolist(), end.tolist(), strict=True))


def segments(caps: Ints, start: int, stop: int) -> tuple[Ints, Ints, Ints]:
    """Row lengths over one digit: first row, length there, and slope of each linear segment.

    Every box adds its length and slope where it begins, lowers the slope by one where its keys
    run into `j2` and where they leave `j1`, and takes away what is left where it ends. The first
    segment begins at `start`.

    Shapes:
        caps: `(num_boxes, 6)`, disjoint
    """
    i1, i2, j1, j2, d1, d2 = (caps * SIGNS).T
    end, one, nothing = i2 + 1, np.ones_like(i1), np.zeros_like(i1)
    full, leaving = np.clip(j2 + d1, i1, end), np.clip(j1 + d2, i1, end)
    length = np.minimum(j2, i1 - d1) - np.maximum(j1, i1 - d2) + 1
    left = np.minimum(j2, i2 - d1) - np.maximum(j1, i2 - d2) + 1
    left += one - (full < end) - (leaving < end)  # where the last slope would lead
    # The events of a box: where, by how much the length jumps there, by how much the slope changes.
    where = np.concatenate([[start], i1, full, leaving, end])
    jump = np.concatenate([[0], length, nothing, nothing, -left])
    bend = np.concatenate([[0], one, -one, -one, one])
    first, group = np.unique(where, return_inverse=True)
    jumps, slope = np.zeros_like(first), np.zeros_like(first)
    np.add.at(jumps, group, jump)
    np.add.at(slope, group, bend)
    slope = np.cumsum(slope)
    jumps[1:] += slope[:-1] * np.diff(first)
    inside = first < stop
    return first[inside], np.cumsum(jumps)[inside], slope[inside]


def lengths(caps: Ints, places: Places, rows: Ints, start: int, stop: int) -> Ints:
    """The lengths of the given rows, all within start..stop, in disjoint boxes."""
    if len(places) == 1:
        first, length, slope = segments(caps[:, 0], start, stop)
        at = np.searchsorted(first, rows, side="right") - 1
        found: Ints = length[at] + slope[at] * (rows - first[at])
        return found
    below, above = places[:1], tuple(place // places[1] for place in places[1:])
    high, high_of = np.unique(rows // places[1], return_inverse=True)
    low, low_of = np.unique(rows % places[1], return_inverse=True)
    if len(high) * len(low) <= 2 * len(rows) + _CHUNK:  # the rows fill a grid: one matrix product
        _check_work((len(high) + len(low)) * len(caps))
        upper = _lengths_by_box(caps[:, 1:], digits_of(high, above)).astype(np.float64)
        lower = _lengths_by_box(caps[:, :1], digits_of(low, below)).astype(np.float64)
        table: Ints = (upper @ lower.T).astype(np.int64)  # exact: no length exceeds 2**53
        return table[high_of, low_of]
    _check_work(len(rows) * len(caps))
    step = max(1, _CHUNK // max(1, len(caps)))
    parts = [rows[at : at + step] for at in range(0, len(rows), step)]
    return np.concatenate([_lengths_by_box(caps, digits_of(part, places)).sum(1) for part in parts])


def _check_work(amount: int) -> None:
    if amount > MAX_WORK:
        raise TooComplex(f"{amount:,} row lengths to evaluate, over the limit of {MAX_WORK:,}")


def _lengths_by_box(caps: Ints, digits: Ints) -> Ints:
    """The length of each row in each box, `(num_rows, num_boxes)`; rows are given by digits."""
    product = np.ones((len(digits), len(caps)), dtype=np.int64)
    for t in range(caps.shape[1]):
        box, row = caps[:, t], digits[:, t, None]
        last = np.minimum(box[:, 3], row + box[:, 4])
        first = np.maximum(-box[:, 2], row - box[:, 5])
        inside = (row >= -box[:, 0]) & (row <= box[:, 1])
        product *= np.where(inside, np.maximum(last - first + 1, 0), 0)
    return product


def candidate_rows(caps: Ints, places: Places, ranges: Ints) -> Ints:
    """Rows among which are a longest and a shortest one, ascending, for disjoint boxes.

    Between neighbouring marks of every digit the length is linear in each digit alone, so
    its extremes over such a cell are at the corners.

    Shapes:
        ranges: `(num_ranges, num_digits, 2)`, the digits of the rows to choose from
    """
    axes = []
    for t in range(len(places)):
        i1, i2, j1, j2, d1, d2 = (caps[:, t] * SIGNS).T
        full, leaving = np.clip(j2 + d1, i1, i2), np.clip(j1 + d2, i1, i2)
        axes.append(np.unique(np.concatenate([i1 - 1, i1, full, leaving, i2, i2 + 1])))
    found = []
    for each in ranges:
        rows = np.zeros(1, dtype=np.int64)
        for place, marks, (first, last) in zip(places, axes, each, strict=True):
            inside = marks[(marks > first) & (marks < last)]
            values = np.unique(np.concatenate([[first, last], inside]))
            _check_work(len(rows) * len(values) * len(caps))
            rows = (rows[:, None] + values * place).ravel()
        found.append(rows)
    return np.unique(np.concatenate(found))
