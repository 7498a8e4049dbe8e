"""Rows and columns: all pairs whose query, or whose key, is in a token set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.regions.base import EMPTY, FULL, MIXED, Bools, Kinds, Region, Tiles
from attnloom.compiler.runs import Ints, Runs
from attnloom.compiler.tokens import TokenSet
from attnloom.compiler.zones import Zones


@dataclass(frozen=True, eq=False)
class Columns(Region):
    """The pairs whose key is in the set, whatever the query: intersect it with a square."""

    tokens: TokenSet

    def contains(self, i: Ints, j: Ints) -> Bools:
        shape = np.broadcast_shapes(np.shape(i), np.shape(j))
        return np.broadcast_to(self.tokens.contains(j), shape)

    def classify(self, tiles: Tiles) -> Kinds:
        return _kinds(self.tokens, tiles.columns, tiles.width)

    def signature(self, tiles: Tiles) -> Ints:
        return _signature(self.tokens, tiles.columns, tiles.width)

    def dense(self, tiles: Tiles) -> Bools:
        inside = self.tokens.contains(tiles.keys)[:, None, :]
        return np.broadcast_to(inside, (len(tiles), tiles.height, tiles.width))

    def runs(self, rows: Ints) -> Runs:
        starts, stops = self.tokens.runs
        each = len(starts)
        offsets = np.arange(len(rows) + 1, dtype=np.int64) * each
        return Runs(offsets, np.tile(starts, len(rows)), np.tile(stops, len(rows)))

    def transposed(self) -> Rows:
        return Rows(self.tokens)

    def in_blocks(self, size: int, length: int) -> Columns:
        return Columns(self.tokens.in_blocks(size, length))

    def zones(self, start: int, stop: int) -> Zones:
        return _zones(self.tokens, start, stop)


@dataclass(frozen=True, eq=False)
class Rows(Region):
    """The pairs whose query is in the set and whose key is a token of the sequence."""

    tokens: TokenSet

    def contains(self, i: Ints, j: Ints) -> Bools:
        inside = (j >= 0) & (j < self.tokens.length)
        return np.asarray(self.tokens.contains(i) & inside)

    def classify(self, tiles: Tiles) -> Kinds:
        kinds = _kinds(self.tokens, tiles.rows, tiles.height)
        outside = (tiles.columns < 0) | (tiles.columns + tiles.width > self.tokens.length)
        return np.where(outside, np.minimum(kinds, MIXED), kinds).astype(np.uint8)

    def signature(self, tiles: Tiles) -> Ints:
        edges = [
            np.clip(-tiles.columns, 0, tiles.width),
            np.clip(self.tokens.length - tiles.columns, 0, tiles.width),
        ]
        own = _signature(self.tokens, tiles.rows, tiles.height)
        return np.concatenate([own, np.stack(edges, axis=1)], axis=1)

    def runs(self, rows: Ints) -> Runs:
        inside = self.tokens.contains(rows)
        return Runs.one_each(np.zeros_like(rows), np.where(inside, self.tokens.length, 0))

    def transposed(self) -> Columns:
        return Columns(self.tokens)

    def in_blocks(self, size: int, length: int) -> Rows:
        return Rows(self.tokens.in_blocks(size, length))

    def zones(self, start: int, stop: int) -> Zones:
        return _zones(self.tokens, start, stop).transpose()


def _kinds(tokens: TokenSet, starts: Ints, size: int) -> Kinds:
    inside = tokens.count_below(starts + size) - tokens.count_below(starts)
    return np.where(inside == size, FULL, np.where(inside == 0, EMPTY, MIXED)).astype(np.uint8)


def _signature(tokens: TokenSet, starts: Ints, size: int) -> Ints:
    """The number of the first stretch of positions that looks the same."""
    kinds = _kinds(tokens, starts, size)
    names = kinds.astype(np.int64) - 3
    mixed = np.flatnonzero(kinds == MIXED)
    places, which = np.unique(starts[mixed], return_inverse=True)
    if len(places):
        # Equal stretches get equal names, so that every 64th token gives one mask and not many.
        bits = np.packbits(tokens.contains(places[:, None] + np.arange(size)), axis=1)
        rows = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1]))).reshape(-1)
        _, name = np.unique(rows, return_inverse=True)
        names[mixed] = name.reshape(-1)[which.reshape(-1)]
    return names[:, None]


def _zones(tokens: TokenSet, start: int, stop: int) -> Zones:
    """All pairs whose key is in the set."""
    if tokens.stretches is None or all(one.is_whole for one in tokens.stretches):
        starts, stops = tokens.runs
        return Zones.columns(start, stop, list(zip(starts.tolist(), stops.tolist(), strict=True)))
    found = Zones.empty(start, stop)
    for one in tokens.stretches:
        here = Zones.columns(start, stop, [(one.start, one.stop)])
        if not one.is_whole:
            first = one.start % one.step
            here = here & _residues(start, stop, one.step, first, first + one.width - 1)
        found = found | here
    return found


def _residues(start: int, stop: int, step: int, first: int, last: int) -> Zones:
    """All pairs whose key has a residue of `first` to `last`, which may run over `step`."""
    found = Zones.periodic_columns(start, stop, step, first, min(last, step - 1))
    if last >= step:
        found = found | Zones.periodic_columns(start, stop, step, 0, last - step)
    return found
