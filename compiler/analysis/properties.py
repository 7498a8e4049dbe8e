"""Properties that hold or do not, each with what shows that one does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnloom.compiler.analysis.figures import Pair
from attnloom.compiler.analysis.stack import Layer, Stack
from attnloom.compiler.analysis.table import Table
from attnloom.compiler.regions.base import Bools
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import TooComplex, Zones

if TYPE_CHECKING:
    from attnloom.compiler.analysis.report import Report

_MOST_ROWS = 1 << 22


@dataclass(frozen=True)
class Verdict:
    """Whether a property holds; if not, a pair or a token that shows it, where there is one.

    `holds` is `None` where a sample has found nothing against it, which proves nothing.
    """

    holds: bool | None
    pair: Pair | None = None
    token: int | None = None


def causal(stack: Stack) -> Verdict:
    """No query reads a later key."""
    for kind in stack.kinds:
        found = _first_read_ahead(kind)
        if found is not None:
            return Verdict(False, found)
    return Verdict(True)


def symmetric(stack: Stack) -> Verdict:
    """Who is read reads back, in the same layer."""
    for kind in stack.kinds:
        found = _first_one_way(kind)
        if found is not None:
            return Verdict(False, found)
    return Verdict(True)


def connected(report: Report) -> Verdict:
    """Every token can learn of every other one that it is meant to."""
    hops = report.hops
    if hops.unreachable is not None:
        return Verdict(not hops.unreachable, hops.unreachable_pair)
    return Verdict(False if hops.unreachable_pair else None, hops.unreachable_pair)


def no_empty_rows(report: Report) -> Verdict:
    """Every query reads some key, in every head of every layer."""
    empty = report.work.empty_row
    if empty is not None:
        return Verdict(False, token=empty.query)
    known = all(kind.per_query is not None for kind in report.work.kinds)
    return Verdict(True if known else None)


def star(stack: Stack) -> Verdict:
    """One token reads all others and is read by them, in every layer; `token` is the first one."""
    common: Bools | None = None
    for kind in stack.kinds:
        found = _centres(kind)
        if found is None:
            return Verdict(None)
        common = found if common is None else common & found
    assert common is not None
    if not common.any():
        return Verdict(False)
    return Verdict(True, token=int(common.argmax()) + stack.start)


def _first_read_ahead(layer: Layer) -> Pair | None:
    try:
        ahead = layer.zones & Zones.zone(layer.start, layer.stop, d=(layer.start - layer.stop, -1))
        found = ahead.first_pair()
        return None if found is None else Pair(found[1], found[0])
    except TooComplex:
        table = layer.tokens.table
        late = np.flatnonzero(table.stops - 1 > table.rows)
        if not len(late):
            return None
        query, key = int(table.rows[late[0]]), int(table.stops[late[0]]) - 1
        return Pair(key + layer.start, query + layer.start)


def _first_one_way(layer: Layer) -> Pair | None:
    """A pair of which only the target reads the source."""
    try:
        found = (layer.zones - layer.zones.transpose()).first_pair()
        return None if found is None else Pair(found[1], found[0])
    except TooComplex:
        grain = layer.grain
        ahead, back = grain.table, grain.read_by
        uneven = np.diff(ahead.offsets) != np.diff(back.offsets)
        if not uneven.any():
            moved = (ahead.starts != back.starts) | (ahead.stops != back.stops)
            uneven[ahead.rows[moved]] = True
        if not uneven.any():
            return None
        row = int(uneven.argmax())
        reads, readers = _members(ahead, row), _members(back, row)
        one_way = np.setdiff1d(reads, readers)
        source, target = (int(one_way[0]), row) if len(one_way) else (row, -1)
        if target < 0:
            target = int(np.setdiff1d(readers, reads)[0])
        return Pair((source + grain.start) * grain.block, (target + grain.start) * grain.block)


def _members(table: Table, row: int) -> Ints:
    """The keys of one row of a table."""
    own = slice(int(table.offsets[row]), int(table.offsets[row + 1]))
    ranges = zip(table.starts[own].tolist(), table.stops[own].tolist(), strict=True)
    return np.concatenate([table.starts[:0], *(np.arange(a, b) for a, b in ranges)])


def _centres(layer: Layer) -> Bools | None:
    """Which positions read all others and are read by them; `None` if that is too much to say."""
    size = layer.stop - layer.start
    if size > _MOST_ROWS:
        return None
    positions = np.arange(layer.start, layer.stop, dtype=np.int64)
    if layer.has_zones and len(layer.zones.places) == 1:
        itself = Zones.zone(layer.start, layer.stop, d=(0, 0))
        found = np.ones(size, dtype=np.bool_)
        # A zone has a pair in each row and in each column of its bounds.
        for i1, i2, j1, j2, _, _ in (~(layer.zones | itself)).boxes[:, 0].tolist():
            found[i1 - layer.start : i2 + 1 - layer.start] = False
            found[j1 - layer.start : j2 + 1 - layer.start] = False
        return found
    if layer.has_zones:
        zones = layer.zones
        if zones.max_row_count()[0] < size - 1 or zones.max_column_count()[0] < size - 1:
            return np.zeros(size, dtype=np.bool_)
        counts = zones.row_counts(positions), zones.column_counts(positions)
        own = zones.contains(positions, positions)
    else:
        grain = layer.grain
        counts = (
            grain.per_token(grain.table.row_totals(grain.weights)),
            grain.per_token(grain.table.key_totals(grain.weights)),
        )
        own = layer.region.contains(positions, positions)
    return np.asarray((counts[0] - own == size - 1) & (counts[1] - own == size - 1))
