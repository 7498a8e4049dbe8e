"""Routes: how information gets from one token to another, read by read, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from attnloom.compiler.analysis import by_zones, walk
from attnloom.compiler.analysis.figures import Pair
from attnloom.compiler.analysis.rules import Rule, rule_of
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.analysis.table import Words
from attnloom.compiler.regions import Region
from attnloom.compiler.zones import TooComplex, Zones

Runs = list[tuple[int, int]]


@dataclass(frozen=True)
class Read:
    """`target` reads `source`, in a layer from 0 where layers differ, by a rule."""

    source: int
    target: int
    layer: int | None
    rule: Rule


@dataclass(frozen=True)
class Route:
    """A shortest route: reads that follow each other from the source to the target.

    Where layers differ, `arrival` is the number of layers after which the target knows of the
    source at the earliest, over whatever route; it may take more reads than this one.
    """

    pair: Pair
    reads: tuple[Read, ...]
    arrival: int | None = None

    @property
    def hops(self) -> int:
        return len(self.reads)


def route(stack: Stack, pair: Pair) -> Route | None:
    """One shortest route, or `None` if there is none."""
    if pair.source == pair.target:
        return Route(pair, ())
    if stack.is_uniform:
        return _shortest(stack, pair)
    return _fewest(stack, pair)


def _shortest(stack: Stack, pair: Pair) -> Route | None:
    """By levels of whom the source tells and of what the target reads, until they meet.

    Always the side goes on whose last level is smaller. As long as the two have not met, a route
    is longer than both have come together; so where they first meet, it is a shortest one.
    """
    layer = stack.kinds[0]
    reads, readers = layer.region, layer.region.transposed()
    told = walk.levels(readers, pair.source, stack.start, stack.stop)
    read = walk.levels(reads, pair.target, stack.start, stack.stop)
    before, after = [next(told)], [next(read)]
    while (middle := before[-1].common(after[-1])) is None:
        side, more = (
            (before, told) if before[-1].size <= after[-1].size else (after, read)
        )  # fmt: skip
        level = next(more, None)
        if level is None:
            return None
        side.append(level)
    stops = [middle]
    for level in reversed(before[:-1]):
        stops.insert(0, _met(level, _row(reads, stops[0])))
    for level in reversed(after[:-1]):
        stops.append(_met(level, _row(readers, stops[-1])))
    return Route(
        pair, tuple(Read(a, b, None, rule_of(layer, b, a)) for a, b in pairwise(stops))
    )  # fmt: skip


def _met(level: walk.Level, ranges: Runs) -> int:
    found = level.meet(ranges)
    assert found is not None
    return found


def _row(region: Region, position: int) -> Runs:
    return region.runs(np.array([position], dtype=np.int64)).row(0)


def _fewest(stack: Stack, pair: Pair) -> Route | None:
    """Backwards from the last layer: wait where the layer below knew as much, else read."""
    try:
        itself = Zones.zone(stack.start, stack.stop, d=(0, 0))
        found = by_zones.within_hops(stack, itself)
        known = [[_column(one, pair.source) for one in within] for within in found]
    except TooComplex:
        known = _known(stack, pair.source)
    fewest = _least(known[-1], pair.target)
    if fewest is None:
        return None
    reads, here, left = [], pair.target, fewest
    for number in reversed(range(stack.layers)):
        below = known[number]
        if _holds(below[min(left, len(below) - 1)], here):
            continue
        layer = stack.layer(number)
        informed = below[min(left - 1, len(below) - 1)]
        source = _common(_row(layer.region, here), informed)
        assert source is not None
        reads.append(Read(source, here, number, rule_of(layer, here, source)))
        here, left = source, left - 1
    arrival = next(count for count, within in enumerate(known) if _holds(within[-1], pair.target))
    return Route(pair, tuple(reversed(reads)), arrival)


def _column(relation: Zones, position: int) -> Runs:
    return relation.column(position)


def _known(stack: Stack, source: int) -> list[list[Runs]]:
    """After 0, 1, 2, ... layers: who has learnt of a source by at most 0, 1, 2, ... reads."""
    bit = np.zeros((1, stack.length), dtype=np.uint64)
    bit[0, source - stack.start] = 1
    within: list[Words] = [bit]
    found = [[_runs(one, stack.start) for one in within]]
    for number in range(stack.layers):
        table = stack.layer(number).tokens.table
        last = within[-1]
        longer = [
            one | table.gather(fewer)
            for one, fewer in zip([*within[1:], last], within, strict=True)
        ]
        within = [within[0], *longer]
        while len(within) > 1 and (within[-1] == within[-2]).all():
            within.pop()
        found.append([_runs(one, stack.start) for one in within])
    return found


def _runs(words: Words, start: int) -> Runs:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (words[0] != 0).view(np.int8), [0]])))
    return list(zip((edges[0::2] + start).tolist(), (edges[1::2] + start).tolist(), strict=True))


def _least(within: list[Runs], position: int) -> int | None:
    return next((hops for hops, runs in enumerate(within) if _holds(runs, position)), None)


def _holds(runs: Iterable[tuple[int, int]], position: int) -> bool:
    return any(start <= position < stop for start, stop in runs)


def _common(a: Runs, b: Runs) -> int | None:
    """The first position in both of two lists of runs."""
    x, y = 0, 0
    while x < len(a) and y < len(b):
        first = max(a[x][0], b[y][0])
        if first < min(a[x][1], b[y][1]):
            return first
        x, y = (x + 1, y) if a[x][1] <= b[y][1] else (x, y + 1)
    return None
