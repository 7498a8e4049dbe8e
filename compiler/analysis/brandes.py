"""Shortest routes counted, and what they carry sent back over them (Brandes 2001).

Numbers of routes differ by many orders of magnitude within one level, so sums over ranges are made
of sums over powers of two, never of differences of running totals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.analysis.grain import Grain
from attnloom.compiler.analysis.intended import Intended
from attnloom.compiler.analysis.table import Table
from attnloom.compiler.regions.base import Bools
from attnloom.compiler.runs import Ints

Floats = NDArray[np.float64]

_SPARSE = 0.1
"""The share of all pairs below which products are made read by read."""

_LARGE = 1e100
"""Numbers of routes are scaled down beyond this."""


def loads_of_all(reads: Bools, wanted: Bools) -> tuple[Floats, Floats]:
    """The load of every token; and of wanted pairs two hops apart the number of two-hop routes.

    Brandes' algorithm (2001) for all sources at once: `routes[t, s]` counts shortest routes from
    `s` to `t`, level by level; then what each target wants is sent back the way it came.

    Shapes:
        reads, wanted: `(length, length)`, query first
    """
    size = len(reads)
    itself = np.eye(size, dtype=np.bool_)
    links: Any = (reads & ~itself).astype(np.float64)
    nothing = np.zeros((size, size))
    if np.count_nonzero(links) < _SPARSE * size * size:
        from scipy.sparse import csr_array

        links = csr_array(links)
    levels, routes = [itself], [itself.astype(np.float64)]
    known = itself.copy()
    while True:
        further = links @ routes[-1]
        new = (further > 0) & ~known
        if not new.any():
            break
        known |= new
        levels.append(new)
        routes.append(np.where(new, further, 0.0))
    two = np.where(wanted, routes[2], 0.0) if len(routes) > 2 else nothing
    relayed = sum(float((level & wanted).sum()) for level in levels[2:])
    total = np.zeros(size)
    passed = np.zeros((size, size))
    for depth in range(len(levels) - 1, 1, -1):
        level = levels[depth]
        each = np.divide(wanted + passed, routes[depth], out=np.zeros((size, size)), where=level)
        passed = np.where(levels[depth - 1], routes[depth - 1] * (links.T @ each), 0.0)
        total += passed.sum(1)
    return total / max(relayed, 1.0), two


def routes_to(grain: Grain, intended: Intended, reader: int) -> tuple[Floats, int]:
    """What passes through each position to one reader, and how many pairs are relayed."""
    table, here = grain.table, reader - grain.start
    wanted = np.zeros(table.length)
    for start, stop in intended.region.runs(np.array([reader])).row(0):
        wanted[start - grain.start : stop - grain.start] = 1
    unseen = np.ones(table.length, dtype=np.bool_)
    unseen[here] = False
    levels, routes, scales = [np.array([here])], [np.ones(1)], [1.0]
    while len(level := _next(table, levels[-1], unseen)):
        unseen[level] = False
        number = _sums(grain.read_by, level, levels[-1], routes[-1])
        scale = 1.0 if number.max() < _LARGE else 1 / float(number.max())
        levels.append(level)
        routes.append(number * scale)
        scales.append(scale)
    passed = np.zeros(table.length)
    relayed = sum(int(wanted[level].sum()) for level in levels[2:])
    for depth in range(len(levels) - 1, 1, -1):
        level, above = levels[depth], levels[depth - 1]
        each = (wanted[level] + passed[level]) / routes[depth] * scales[depth]
        passed[above] = routes[depth - 1] * _sums(table, above, level, each)
    return passed, relayed


def _ranges(table: Table, rows: Ints) -> tuple[Ints, Ints]:
    """The numbers of all ranges of some rows, and beside each the place of its row."""
    first, counts = table.offsets[rows], table.offsets[rows + 1] - table.offsets[rows]
    place = np.repeat(np.arange(len(rows)), counts)
    at = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts - first, counts)
    return at, place


def _next(table: Table, level: Ints, unseen: Bools) -> Ints:
    """The positions that a level reads and that have not been seen."""
    at, _ = _ranges(table, level)
    if not len(at):
        return at
    starts, stops = table.starts[at], table.stops[at]
    low, high = int(starts.min()), int(stops.max())
    cover = np.bincount(starts - low, minlength=high - low + 1)
    cover -= np.bincount(stops - low, minlength=high - low + 1)
    return np.flatnonzero((np.cumsum(cover)[:-1] > 0) & unseen[low:high]) + low


def _sums(table: Table, rows: Ints, positions: Ints, values: Floats) -> Floats:
    """For each row the sum of the values at those of some positions that it holds.

    Positions ascend. A range is cut into stretches whose lengths are different powers of two.
    """
    at, place = _ranges(table, rows)
    low, high = int(positions[0]), int(positions[-1]) + 1
    level = np.zeros(high - low)
    level[positions - low] = values
    starts = np.clip(table.starts[at] - low, 0, high - low)
    lengths = np.clip(table.stops[at] - low, 0, high - low) - starts
    some = np.flatnonzero(lengths > 0)
    starts, lengths, place = starts[some], lengths[some], place[some]
    sums = np.zeros(len(starts))
    for bit in range(int(lengths.max(initial=0)).bit_length()):
        own = np.flatnonzero(lengths >> bit & 1)
        sums[own] += level[starts[own]]
        starts[own] += 1 << bit
        level[: -(1 << bit)] += level[1 << bit :].copy()
    return np.bincount(place, minlength=len(rows), weights=sums).astype(np.float64)
