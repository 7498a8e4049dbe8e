"""Same: the pairs of tokens that carry the same id; documents, segments, the cells of a tiling."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from attnloom.compiler.bits import different, ranges
from attnloom.compiler.limits import MAX_RUNS, TooLarge
from attnloom.compiler.regions.base import EMPTY, FULL, MIXED, Bools, Bytes, Kinds, Region, Tiles
from attnloom.compiler.regions.rectangles import rectangles
from attnloom.compiler.runs import Ints, Runs
from attnloom.compiler.zones import Zones

_NO_QUERY, _NO_KEY = -1, -2
_FAR = 1 << 40


@dataclass(frozen=True, eq=False)
class Same(Region):
    """The pairs of tokens `i` and `j` with `ids[i] == ids[j]`; a negative id joins nothing.

    Shapes:
        ids: `(length,)`, small numbers, not all of which need occur
    """

    ids: Ints
    _ranges: dict[tuple[int, int], tuple[Ints, Ints]] = field(
        default_factory=dict, repr=False, init=False
    )
    _known_shapes: dict[tuple[int, int], tuple[Ints, Ints]] = field(
        default_factory=dict, repr=False, init=False
    )

    @classmethod
    def of(cls, ids: Ints) -> Same:
        """From any integers; negative ones are ids like others."""
        ids = np.asarray(ids)
        starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))[: len(ids)]
        _, numbers = np.unique(ids[starts], return_inverse=True)
        lengths = np.diff(np.append(starts, len(ids)))
        return cls(np.repeat(numbers.reshape(-1).astype(np.int64), lengths))

    def _at(self, positions: Ints, absent: int) -> Ints:
        length = len(self.ids)
        inside = (positions >= 0) & (positions < length)
        found = self.ids[np.clip(positions, 0, length - 1)]
        return np.where(inside & (found >= 0), found, absent)

    def contains(self, i: Ints, j: Ints) -> Bools:
        return np.asarray(self._at(i, _NO_QUERY) == self._at(j, _NO_KEY))

    def classify(self, tiles: Tiles) -> Kinds:
        row_low, row_high = self._extent(tiles, tiles.row_numbers, tiles.height)
        key_low, key_high = self._extent(tiles, tiles.column_numbers, tiles.width)
        apart = (row_high < key_low) | (key_high < row_low) | (row_high < 0) | (key_high < 0)
        one = (row_low == row_high) & (key_low == key_high) & (row_low == key_low) & (row_low >= 0)
        return np.where(one, FULL, np.where(apart, EMPTY, MIXED)).astype(np.uint8)

    def _extent(self, tiles: Tiles, numbers: Ints, size: int) -> tuple[Ints, Ints]:
        """The least and the largest id in stretches of positions; -1 where there is none."""
        name = (size, tiles.origin)
        if name not in self._ranges:
            rows = self._stretches(size, tiles.origin)
            self._ranges[name] = rows.min(1), rows.max(1)
        low, high = self._ranges[name]
        inside = numbers < len(low)
        at = np.minimum(numbers, len(low) - 1)
        return np.where(inside, low[at], _NO_QUERY), np.where(inside, high[at], _NO_QUERY)

    def _stretches(self, size: int, origin: int) -> Ints:
        """The ids of all stretches of positions, -1 for none, `(num_stretches, size)`."""
        length, before = len(self.ids), -origin
        padded = np.full(-(-(before + length) // size) * size, _NO_QUERY, dtype=np.int64)
        padded[before : before + length] = np.maximum(self.ids, _NO_QUERY)
        return padded.reshape(-1, size)

    def signature(self, tiles: Tiles) -> Ints:
        kinds = self.classify(tiles).astype(np.int64) - 3
        mixed = (kinds == MIXED - 3)[:, None]
        # Ids relative to the least one of each stretch, and how far those are apart, say it all.
        rows, keys = tiles.row_numbers, tiles.column_numbers
        row_least, row_shape = self._shapes(tiles, tiles.height)
        key_least, key_shape = self._shapes(tiles, tiles.width)
        apart = row_least[rows] - key_least[keys]
        code = np.stack([row_shape[rows], key_shape[keys], apart], axis=1)
        return np.where(mixed, code, kinds[:, None])

    def _shapes(self, tiles: Tiles, size: int) -> tuple[Ints, Ints]:
        """For each stretch of positions its least id, and a number for the ids relative to it."""
        name = (size, tiles.origin)
        if name not in self._known_shapes:
            rows = self._stretches(size, tiles.origin)
            known = rows >= 0
            least = np.where(known, rows, _FAR).min(1)
            relative = np.where(known, rows - least[:, None] + 1, 0)
            _, groups = different(relative.view(np.uint8)[:, None])
            self._known_shapes[name] = least, groups
        return self._known_shapes[name]

    def dense(self, tiles: Tiles) -> Bools:
        rows, keys = self._at(tiles.queries, _NO_QUERY), self._at(tiles.keys, _NO_KEY)
        least = np.minimum(rows.min(1), keys.min(1))[:, None]
        rows, keys = rows - least, keys - least
        if max(int(rows.max(initial=0)), int(keys.max(initial=0))) < 1 << 15:
            rows, keys = rows.astype(np.int16), keys.astype(np.int16)
        return np.asarray(rows[:, :, None] == keys[:, None, :])

    def spans(self, tiles: Tiles) -> tuple[Ints, Ints] | None:
        ends = self._span_of_position
        if ends is None:
            return None
        queries = tiles.queries
        inside = (queries >= 0) & (queries < len(self.ids))
        if inside.all():
            first, stop = ends[0][queries], ends[1][queries]
        else:
            at = np.where(inside, queries, 0)
            first, stop = ends[0][at], np.where(inside, ends[1][at], 0)
        left = tiles.columns[:, None]
        return first - left, stop - left

    def bits(self, tiles: Tiles) -> Bytes:
        spans = self.spans(tiles)
        return super().bits(tiles) if spans is None else ranges(*spans, tiles.width)

    @cached_property
    def _span_of_position(self) -> tuple[Ints, Ints] | None:
        """Where the stretch of each position's id begins and ends, if every id has one."""
        table = self._runs_of_ids
        if (np.diff(table.offsets) > 1).any():
            return None
        known = self.ids >= 0
        ends = np.zeros((2, len(self.ids)), dtype=np.int64)
        run = table.offsets[self.ids[known]]
        ends[0, known], ends[1, known] = table.starts[run], table.stops[run]
        return ends[0], ends[1]

    @cached_property
    def _runs_of_ids(self) -> Runs:
        ids = self.ids
        starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])).astype(np.int64)
        stops = np.concatenate([starts[1:], [len(ids)]])
        number = ids[starts]
        known = number >= 0
        count = max(1, int(ids.max(initial=-1)) + 1)
        return Runs.of_ranges(count, number[known], starts[known], stops[known])

    def runs(self, rows: Ints) -> Runs:
        table = self._runs_of_ids
        ids = self._at(rows, _NO_QUERY)
        some = ids >= 0
        first = np.where(some, table.offsets[np.maximum(ids, 0)], 0)
        counts = np.where(some, table.offsets[np.maximum(ids, 0) + 1] - first, 0)
        total = int(counts.sum())
        if total > MAX_RUNS:
            raise TooLarge(f"{len(rows):,} rows hold more than {MAX_RUNS:,} ranges of keys")
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        at = np.arange(total) - np.repeat(offsets[:-1] - first, counts)
        return Runs(offsets, table.starts[at], table.stops[at])

    def transposed(self) -> Same:
        return self

    def in_blocks(self, size: int, length: int) -> Same:
        return Same(np.repeat(self.ids, size)[:length])

    def zones(self, start: int, stop: int) -> Zones:
        table = self._runs_of_ids
        counts = np.diff(table.offsets)
        rows = np.repeat(np.arange(len(table.starts)), counts[table.rows])
        offsets = np.concatenate([[0], np.cumsum(counts[table.rows])])
        at = np.arange(len(rows)) - np.repeat(
            offsets[:-1] - table.offsets[table.rows], counts[table.rows]
        )
        return rectangles(
            start, stop, table.starts[rows], table.stops[rows], table.starts[at], table.stops[at]
        )
