"""The cut profile: how much crosses each place in the sequence, and through how many states.

At a boundary `p` the reads that cross forwards are those of keys before `p` by queries from `p` on.
The states that can carry them are the fewest tokens that touch all of them, on either side: as many
as there are crossing reads that share no token (König).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.stack import Layer, Removed, Stack
from attnloom.compiler.regions import Boxes
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import TooComplex, Zones

PLACES = 64
"""Boundaries that are listed, evenly spread."""

_MOST_ROWS = 1 << 16
_MOST_PAIRS = 1 << 18
_MOST_HUBS = 256


@dataclass(frozen=True)
class Profile:
    """Reads that cross boundaries, in all layers together where layers differ.

    `forward[k]` counts the reads by which information goes from before `places[k]` to behind it,
    `backward[k]` the other way. `states` is the number of states that carry the forward reads of
    one layer across the middle, `None` where it is not known.
    """

    places: tuple[int, ...]
    forward: tuple[int, ...]
    backward: tuple[int, ...]
    states: int | None


def profile(stack: Stack, hubs: Removed) -> Profile | None:
    """The cut profile of a stack; `None` if there is no place between two positions.

    Raises:
        TooLarge: the rows are too many to look at.
    """
    size = max((kind.grain.block for kind in stack.kinds if not kind.has_zones), default=1)
    inside = np.arange(stack.start + size, stack.stop, size, dtype=np.int64)
    if not len(inside):
        return None
    places = inside[np.unique(np.linspace(0, len(inside) - 1, PLACES).astype(np.int64))]
    counts = [np.zeros(len(places), dtype=object), np.zeros(len(places), dtype=object)]
    for number, kind in enumerate(stack.kinds):
        times = 1 if stack.is_uniform else len(stack.layers_of(number))
        for total, found in zip(counts, crossing(kind, places), strict=True):
            total += found * times
    states = None
    if stack.is_uniform:
        states = states_across(stack.kinds[0], (stack.start + stack.stop) // 2, hubs)
    forward, backward = (tuple(int(one) for one in each) for each in counts)
    return Profile(tuple(places.tolist()), forward, backward, states)


def crossing(layer: Layer, places: Ints) -> tuple[Ints, Ints]:
    """The reads that cross each of some boundaries, forwards and backwards."""
    if layer.has_zones:
        reads, start, stop = layer.zones, layer.start, layer.stop
        found = []
        for place in places.tolist():
            low, high = (start, place - 1), (place, stop - 1)
            for query, key in ((high, low), (low, high)):
                found.append((reads & Zones.zone(start, stop, i=query, j=key)).count())
        return np.array(found[0::2], dtype=object), np.array(found[1::2], dtype=object)
    grain = layer.grain if (places % layer.grain.block == 0).all() else layer.tokens
    table, weights = grain.table, grain.weights
    at = places // grain.block - grain.start
    last = table.length - 1
    forward = _crossing_up(weights, table.rows, table.starts, table.stops)
    backward = _crossing_up(
        weights[::-1], last - table.rows, table.length - table.stops, table.length - table.starts
    )
    return forward[at], backward[table.length - at]


def _crossing_up(weights: Ints, rows: Ints, starts: Ints, stops: Ints) -> Ints:
    """For each boundary the reads of keys before it by queries behind it.

    A range below its row adds from key to key, stays as it is up to the row, and ends there. Every
    position counts as many tokens as it weighs.
    """
    length = len(weights)
    below = starts < rows
    rows, starts, stops = rows[below], starts[below], np.minimum(stops, rows)[below]
    before = np.concatenate([[0], np.cumsum(weights)])
    queries = weights[rows]
    change = np.zeros(length + 2, dtype=np.int64)
    np.add.at(change, starts, queries)
    np.subtract.at(change, stops, queries)
    active = np.cumsum(change)[:length]  # queries that read each key from behind it
    ends = np.zeros(length + 2, dtype=np.int64)
    np.add.at(ends, rows + 1, queries * (before[stops] - before[starts]))
    found: Ints = np.concatenate([[0], np.cumsum(active * weights)]) - np.cumsum(ends)[: length + 1]
    return found


def states_across(layer: Layer, place: int, hubs: Removed) -> int | None:
    """The fewest tokens that touch every read that crosses a boundary forwards.

    A hub that touches more of them than all the others could carry must be among those tokens.
    """
    try:
        found = _by_hubs(layer, place, hubs) if layer.has_zones else None
    except TooComplex:
        found = None
    return found if found is not None else _by_matching(layer, place)


def _by_hubs(layer: Layer, place: int, hubs: Removed) -> int | None:
    start, stop = layer.start, layer.stop
    over = Zones.zone(start, stop, i=(place, stop - 1), j=(start, place - 1))
    reads = layer.zones & over
    if len(hubs) > _MOST_HUBS or len(reads.places) > 1:
        return None
    rest = reads - hubs.links(start, stop).zones(start, stop) if len(hubs) else reads
    carried = _most_matched(rest)
    if carried is None:
        return None
    touched = [
        reads.row_count(hub) if hub >= place else reads.column_count(hub)
        for hub in hubs.positions(_MOST_HUBS)
    ]
    busy = [count for count in touched if count]
    if any(count <= carried + len(busy) for count in busy):
        return None
    return carried + len(busy)


def _most_matched(reads: Zones) -> int | None:
    """The most pairs of which no two share a query or a key, if every row is one range.

    From key to key, the query whose range ends first takes it.
    """
    if reads.is_empty():
        return 0
    if len(reads.places) > 1:
        return None
    first, last = int(reads.boxes[..., 0].min()), int(reads.boxes[..., 1].max())
    if last - first >= _MOST_ROWS:
        return None
    rows = Boxes(reads).runs(np.arange(first, last + 1, dtype=np.int64))
    if (np.diff(rows.offsets) > 1).any():
        return None
    waiting = sorted(zip(rows.starts.tolist(), rows.stops.tolist(), strict=True), reverse=True)
    open_ends: list[int] = []
    matched, key = 0, 0
    while waiting or open_ends:
        if not open_ends:
            key = max(key, waiting[-1][0])
        while waiting and waiting[-1][0] <= key:
            heapq.heappush(open_ends, waiting.pop()[1])
        while open_ends and open_ends[0] <= key:
            heapq.heappop(open_ends)
        if open_ends:
            heapq.heappop(open_ends)
            matched += 1
            key += 1
    return matched


def _by_matching(layer: Layer, place: int) -> int | None:
    """The same for any rows, by SciPy; for few reads."""
    if crossing(layer, np.array([place]))[0][0] > _MOST_PAIRS:
        return None
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    table = layer.tokens.table
    stops = np.minimum(table.stops, place - layer.start)
    some = np.flatnonzero((table.rows >= place - layer.start) & (table.starts < stops))
    counts = stops[some] - table.starts[some]
    first = np.cumsum(counts) - counts
    keys = np.arange(int(counts.sum())) + np.repeat(table.starts[some] - first, counts)
    queries = np.repeat(table.rows[some], counts)
    ones = np.ones(len(keys), dtype=np.int8)
    graph = csr_array(coo_array((ones, (queries, keys)), shape=(table.length, table.length)))
    return int((maximum_bipartite_matching(graph) >= 0).sum())
