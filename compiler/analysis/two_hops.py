"""How many two-hop routes pairs have, in closed form, and what hubs carry of them.

A route from `s` over `k` to `t` needs `t` to read `k` and `k` to read `s`. For two zones the middle
tokens `k` are a range, from the largest of some lower ends to the least of some upper ends, each a
constant or a constant more than `t` or `s`. Which of them is the largest, and which the least, is
said by differences of `t` and `s`, so the pairs for which it is the same are a zone again, and in
it the number of middle tokens is linear. With a window of 2 on each side and token 0 for all,
tokens that are 3 apart have one route through 0 and two along the window:

>>> first = [Bounds(i=(0, 0)), Bounds(j=(0, 0))]
>>> reads = Zones.union(0, 100, [Bounds(d=(-2, 2)), *first])
>>> routes = two_hop_routes(reads, Zones.zone(0, 100, i=(1, 99), j=(1, 99), d=(3, 3)))
>>> routes.num_pairs, routes.fewest, routes.num_fewest
(96, 3, 96)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.stack import checked
from attnloom.compiler.runs import Ints
from attnloom.compiler.zone_arrays import SIGNS, nonempty, tighten, zone_areas
from attnloom.compiler.zones import Bounds, TooComplex, Zones

_MOST_ZONES = 80
"""Zones that do not overlap, of which all pairs are looked at."""

_MOST_CELLS = 400
_MOST_VALUES = 1 << 23
_MOST_ROWS = 10_000

Form = tuple[int, int, int]
"""A linear number of middle tokens: a constant, and what is added for each `t` and each `s`."""


@dataclass(frozen=True, eq=False)
class Routes:
    """Pairs grouped by the form of their number of two-hop routes; the groups do not overlap.

    `fewest` is the least number of routes of a pair, `num_fewest` how many pairs have no more.
    """

    cells: tuple[tuple[Form, Zones], ...]
    num_pairs: int
    fewest: int
    num_fewest: int

    def share_through(self, token: int, reads: Zones) -> float:
        """The share of all routes that lead through a token, every pair counting as one."""
        start, stop = reads.start, reads.stop
        sides = (
            _without(reads.column(token), token),
            _without(reads.row(token), token),
        )
        if not all(sides):
            return 0.0
        through = Zones.union(start, stop, [Bounds(i=i, j=j) for i in sides[0] for j in sides[1]])
        total = 0.0
        for form, cell in self.cells:
            for values, counts in _values(form, cell & through):
                total += float((counts / values).sum())
        return total / self.num_pairs


def two_hop_routes(reads: Zones, pairs: Zones) -> Routes:
    """The two-hop routes of some pairs of different tokens, each of which has one.

    Raises:
        TooComplex: the closed form has too many pieces, or digits.
    """
    if len(reads.places) > 1 or len(pairs.places) > 1:
        raise TooComplex("routes over several digits")
    others = reads - Zones.zone(reads.start, reads.stop, d=(0, 0))
    boxes = others.disjoint().boxes[:, 0]
    if len(boxes) > _MOST_ZONES:
        raise TooComplex(f"{len(boxes):,} zones, of which all pairs would be looked at")
    cells: dict[Form, Zones] = {(0, 0, 0): pairs}
    for form, zone in _pieces(boxes, reads.start, reads.stop):
        if not zone & pairs:
            continue
        changed: dict[Form, Zones] = {}
        for old, cell in cells.items():
            inside = cell & zone
            rest = cell - zone if inside else cell
            sums: Form = (old[0] + form[0], old[1] + form[1], old[2] + form[2])
            for name, part in ((sums, inside), (old, rest)):
                if part:
                    changed[name] = checked(changed[name] | part) if name in changed else part
        cells = changed
        if len(cells) > _MOST_CELLS:
            raise TooComplex(f"the number of routes has {len(cells):,} forms")
    fewest, num_fewest, total = 0, 0, 0
    for form, cell in cells.items():
        for values, counts in _values(form, cell):
            total += int(counts.sum())
            least = int(values.min())
            if not num_fewest or least < fewest:
                fewest, num_fewest = least, 0
            num_fewest += int(counts[values == fewest].sum())
    return Routes(tuple(cells.items()), total, fewest, num_fewest)


def _without(runs: list[tuple[int, int]], token: int) -> list[tuple[int, int]]:
    """Runs as first and last, without one token."""
    found = []
    for start, stop in runs:
        for first, last in ((start, min(stop, token) - 1), (max(start, token + 1), stop - 1)):
            if first <= last:
                found.append((first, last))
    return found


# A bound on the middle token is `c`, `t + c` or `s + c`.
_CONSTANT, _QUERY, _KEY = 0, 1, 2


def _pieces(boxes: Ints, start: int, stop: int) -> Iterator[tuple[Form, Zones]]:
    """For all pairs of zones the stretches of pairs with one linear number of middle tokens."""
    upper, lower = (x.reshape(-1) for x in np.indices((len(boxes), len(boxes))))
    a, b = boxes[upper], boxes[lower]  # t reads k in a, k reads s in b
    lows = [np.maximum(a[:, 2], b[:, 0]), -a[:, 5], b[:, 4]]
    highs = [np.minimum(a[:, 3], b[:, 1]), -a[:, 4], b[:, 5]]
    for low in range(3):
        for high in range(3):
            caps = np.stack([-a[:, 0], a[:, 1], -b[:, 2], b[:, 3]], axis=1)
            span = np.full((len(a), 1), stop - start)
            caps = np.concatenate([caps, span, span], axis=1)
            for other in range(3):
                # Of equal ends the first counts.
                _demand(caps, (low, lows[low]), (other, lows[other] + (other < low)))
                _demand(caps, (other, highs[other] - (other < high)), (high, highs[high]))
            _demand(caps, (high, highs[high]), (low, lows[low]))
            tight = tighten(caps)
            for place in np.flatnonzero(nonempty(tight)):
                form = [int(highs[high][place] - lows[low][place]) + 1, 0, 0]
                form[high] += high > 0
                form[low] -= low > 0
                box = (tight[place] * SIGNS)[None, None]
                zone = Zones(start, stop, (1,), box)
                yield (form[0], form[1], form[2]), zone


def _demand(caps: Ints, larger: tuple[int, Ints], smaller: tuple[int, Ints]) -> None:
    """Add that one end is at least another one, as a cap of the zones of `(t, s)`."""
    (x, more), (y, less) = larger, smaller
    gap = more - less  # x + gap >= y
    if x == y:
        caps[gap < 0, 1] = -(1 << 50)  # never
        return
    at = {
        (_QUERY, _CONSTANT): 0,  # -t <= gap
        (_CONSTANT, _QUERY): 1,  # t <= gap
        (_KEY, _CONSTANT): 2,
        (_CONSTANT, _KEY): 3,
        (_QUERY, _KEY): 4,  # s - t <= gap
        (_KEY, _QUERY): 5,  # t - s <= gap
    }[x, y]
    caps[:, at] = np.minimum(caps[:, at], gap)


def _values(form: Form, cell: Zones) -> Iterator[tuple[Ints, Ints]]:
    """The numbers of routes in a cell, and how many pairs have each."""
    constant, by_query, by_key = form
    boxes = cell.disjoint().boxes[:, 0]
    if not len(boxes):
        return
    if by_query == by_key == 0:
        areas = zone_areas(boxes * SIGNS)
        yield np.array([constant]), np.array([areas.sum()], dtype=np.int64)
        return
    for i1, i2, j1, j2, d1, d2 in boxes.tolist():
        if by_query + by_key == 0:
            d = _stretch(d1, d2)
            yield constant + by_query * d, np.minimum(i2, j2 + d) - np.maximum(i1, j1 + d) + 1
        elif by_key == 0:
            t = _stretch(i1, i2)
            yield constant + by_query * t, np.minimum(j2, t - d1) - np.maximum(j1, t - d2) + 1
        elif by_query == 0:
            s = _stretch(j1, j2)
            yield constant + by_key * s, np.minimum(i2, s + d2) - np.maximum(i1, s + d1) + 1
        else:
            if i2 - i1 > _MOST_ROWS:
                raise TooComplex("numbers of routes that depend on both tokens")
            for row in range(i1, i2 + 1):  # row by row, each a stretch of keys
                s = _stretch(max(j1, row - d2), min(j2, row - d1))
                yield constant + by_query * row + by_key * s, np.ones_like(s)


def _stretch(first: int, last: int) -> Ints:
    if last - first >= _MOST_VALUES:
        raise TooComplex(f"{last - first + 1:,} different numbers of routes")
    return np.arange(first, last + 1, dtype=np.int64)
