"""Boxes: relations of digits; chunks, grids, neighbourhoods, and bands of blocks.

Write a position in digits of fixed place values, `i = digit_0 + digit_1 * places[1] + ...`. A box
has one zone for each digit, over the digits of query and key (see `attnloom.compiler.zones`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attnloom.compiler.limits import MAX_RUNS, TooLarge
from attnloom.compiler.regions.base import (
    EMPTY,
    FULL,
    MIXED,
    Bools,
    Bytes,
    Kinds,
    Region,
    Tiles,
)
from attnloom.compiler.runs import Ints, Runs
from attnloom.compiler.zones import Zones

_ABSENT, _WHOLE = -1, -2


class _Piece(NamedTuple):
    """Positions of which every digit runs over a range of its own, one such set for each tile.

    Shapes:
        low, high: `(num_digits, num_tiles)`, inclusive; real: `(num_tiles,)`, whether there is one
    """

    low: list[Ints]
    high: list[Ints]
    real: Bools


class _Ranked(NamedTuple):
    """One digit of sets of keys, so that ranges of it are found without looking at each key.

    Shapes:
        least, most: over all sets, `()`
        sorted: the digits of each set ascending, sets apart by `most - least + 2`
        first: the keys of the first ranks, packed: `(num_sets * (width + 1), ceil(width / 8))`
    """

    least: int
    most: int
    sorted: Ints
    first: Bytes

    @classmethod
    def of(cls, digits: Ints) -> _Ranked:
        num, width = digits.shape
        least, most = int(digits.min(initial=0)), int(digits.max(initial=0))
        order = np.argsort(digits, axis=1, kind="stable")
        ranks = np.empty((num, 1, width), dtype=np.int32)
        np.put_along_axis(ranks[:, 0], order, np.arange(width, dtype=np.int32)[None], 1)
        is_first = ranks < np.arange(width + 1, dtype=np.int32)[:, None]
        first = np.packbits(is_first, axis=-1, bitorder="little")
        apart = np.arange(num)[:, None] * (most - least + 2)
        in_order = np.take_along_axis(digits, order, 1) - least + apart
        return cls(least, most, in_order.reshape(-1), first.reshape(-1, first.shape[2]))

    def between(self, low: Ints, high: Ints, which: Ints) -> Bytes:
        """The keys whose digit is in ranges, of the sets that `which` names.

        Shapes:
            low, high: inclusive, `(num, num_ranges)`; which: `(num,)`; the keys:
            `(num, num_ranges, ceil(width / 8))`
        """
        which = which[:, None]
        begin = np.clip(low, self.least, self.most + 1)
        end = np.maximum(np.clip(high + 1, self.least, self.most + 1), begin)
        apart = which * (self.most - self.least + 2) - self.least
        # Counting also all keys of earlier sets, and with a rank more for each set.
        ranks = (np.searchsorted(self.sorted, x + apart) + which for x in (begin, end))
        bits = [self.first.take(rank.reshape(-1), axis=0) for rank in ranks]
        return (bits[0] ^ bits[1]).reshape(*low.shape, -1)


@dataclass(frozen=True, eq=False)
class Boxes(Region):
    """The union of boxes in normal form."""

    form: Zones

    def contains(self, i: Ints, j: Ints) -> Bools:
        queries, keys = self._digits(np.asarray(i)), self._digits(np.asarray(j))
        found = np.zeros(np.broadcast_shapes(np.shape(i), np.shape(j)), dtype=np.bool_)
        for box in self.form.boxes.tolist():
            inside = np.ones((), dtype=np.bool_)
            for (i1, i2, j1, j2, d1, d2), q, k in zip(box, queries, keys, strict=True):
                inside = inside & ((q >= i1) & (q <= i2)) & ((k >= j1) & (k <= j2))
                if d1 > i1 - j2 or d2 < i2 - j1:
                    d = q - k
                    inside = inside & (d >= d1) & (d <= d2)
            found |= inside
        return found

    def bits(self, tiles: Tiles) -> Bytes:
        first, which = np.unique(tiles.columns, return_inverse=True)
        keys = first[:, None] + np.arange(tiles.width)
        return self.bits_between(tiles.queries, keys, which.reshape(-1))

    def bits_between(self, queries: Ints, keys: Ints, which: Ints) -> Bytes:
        """Which keys each query reads, tile by tile, packed.

        Args:
            queries: of each tile, `(num_tiles, height)`.
            keys: sets of keys, `(num_sets, width)`.
            which: the set that each tile meets, `(num_tiles,)`.

        Returns:
            Bits, `(num_tiles, height, ceil(width / 8))`.
        """
        rows = self._digits(queries)
        ranked = [_Ranked.of(digit) for digit in self._digits(keys)]
        found = np.zeros((*queries.shape, -(-keys.shape[1] // 8)), dtype=np.uint8)
        # Boxes often differ in some digits only.
        known: dict[tuple[int, ...], Bytes] = {}
        for box in self.form.boxes.tolist():
            inside = np.full_like(found, 255)
            for t, (i1, i2, j1, j2, d1, d2) in enumerate(box):
                name = (t, i1, i2, j1, j2, d1, d2)
                if name not in known:
                    q = rows[t]
                    low, high = np.maximum(j1, q - d2), np.minimum(j2, q - d1)
                    high = np.where((q >= i1) & (q <= i2), high, low - 1)
                    known[name] = ranked[t].between(low, high, which)
                inside &= known[name]
            found |= inside
        return found

    def _digits(self, positions: Ints) -> list[Ints]:
        places = self.form.places
        digits = [
            positions // place % (above // place) for place, above in itertools.pairwise(places)
        ]
        return [*digits, positions // places[-1]]

    def _pieces(self, starts: Ints, size: int) -> list[_Piece]:
        """Stretches of positions, cut so that each piece has a range for every digit."""
        first, last = starts, starts + (size - 1)
        return list(
            self._cut(first, last, np.ones(len(starts), dtype=np.bool_), len(self.form.places) - 1)
        )

    def _cut(self, first: Ints, last: Ints, real: Bools, digit: int) -> list[_Piece]:
        """Ranges below the place value above `digit`, cut at that digit and those below."""
        place = self.form.places[digit]
        if digit == 0:
            return [_Piece([first], [last], real)]
        low, high = first // place, last // place
        one = low == high
        zero, top = np.zeros_like(first), np.full_like(first, place - 1)
        head = self._cut(first % place, np.where(one, last % place, top), real, digit - 1)
        tail = self._cut(zero, last % place, real & ~one, digit - 1)
        middle = self._whole(real & (high - low > 1), digit - 1)
        return [
            _Piece([*piece.low, start], [*piece.high, stop], piece.real)
            for pieces, start, stop in (
                (head, low, low), (tail, high, high), ([middle], low + 1, high - 1)
            )
            for piece in pieces
            if piece.real.any()
        ]  # fmt: skip

    def _whole(self, real: Bools, digit: int) -> _Piece:
        places = self.form.places
        zero = np.zeros(len(real), dtype=np.int64)
        ends = [np.full_like(zero, places[t + 1] // places[t] - 1) for t in range(digit + 1)]
        return _Piece([zero] * (digit + 1), ends, real)

    def _tests(self, tiles: Tiles) -> tuple[Bools, Bools, Bools]:
        """Which boxes each tile meets, which cover it, and whether all together do.

        Shapes:
            `(num_boxes, num_tiles)` twice, and `(num_tiles,)`
        """
        boxes = self.form.boxes
        rows, columns = (
            self._pieces(tiles.rows, tiles.height),
            self._pieces(tiles.columns, tiles.width),
        )
        meets = np.zeros((len(boxes), len(tiles)), dtype=np.bool_)
        covers = np.ones((len(boxes), len(tiles)), dtype=np.bool_)
        whole = np.ones(len(tiles), dtype=np.bool_)
        for row in rows:
            for column in columns:
                real = row.real & column.real
                part = ~real
                for number, box in enumerate(boxes.tolist()):
                    meet, cover = real, np.ones(len(tiles), dtype=np.bool_)
                    for digit, zone in enumerate(box):
                        ends = (
                            row.low[digit],
                            row.high[digit],
                            column.low[digit],
                            column.high[digit],
                        )
                        met, covered = _zone_tests(zone, *ends)
                        meet, cover = meet & met, cover & covered
                    meets[number] |= meet
                    covers[number] &= cover | ~real
                    part |= cover
                whole &= part
        return meets, covers, whole

    def classify(self, tiles: Tiles) -> Kinds:
        meets, _, whole = self._tests(tiles)
        kinds = np.where(meets.any(0), MIXED, EMPTY)
        return np.where(whole, FULL, kinds).astype(np.uint8)

    def signature(self, tiles: Tiles) -> Ints:
        meets, covers, _ = self._tests(tiles)
        top = self.form.places[-1]
        phase = [tiles.rows % top, tiles.columns % top]
        query, key = tiles.rows // top, tiles.columns // top
        tall, wide = tiles.height // top + 2, tiles.width // top + 2
        columns = []
        for number, box in enumerate(self.form.boxes[:, -1].tolist()):
            i1, i2, j1, j2, d1, d2 = box
            parts = [
                *phase,
                np.clip(i1 - query, 0, tall),
                np.clip(i2 + 1 - query, 0, tall),
                np.clip(j1 - key, 0, wide),
                np.clip(j2 + 1 - key, 0, wide),
                np.clip(d1 - (query - key), -wide, tall),
                np.clip(d2 - (query - key), -wide, tall),
            ]
            here, whole = meets[number], covers[number]
            columns += [np.where(whole, _WHOLE, np.where(here, x, _ABSENT)) for x in parts]
        return np.stack(columns, axis=1) if columns else np.zeros((len(tiles), 0), dtype=np.int64)

    def runs(self, rows: Ints) -> Runs:
        found = [self._runs_of_box(box, rows) for box in self.form.boxes.tolist()]
        if not found:
            return Runs.empty(len(rows))
        row, start, stop = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(row) > MAX_RUNS:
            raise TooLarge(f"{len(rows):,} rows hold more than {MAX_RUNS:,} ranges of keys")
        return Runs.of_ranges(len(rows), row, start, stop)

    def _runs_of_box(self, box: list[list[int]], rows: Ints) -> tuple[Ints, Ints, Ints]:
        """The ranges of keys of a box: the row, start and stop of each, in any order."""
        places = self.form.places
        here = np.arange(len(rows))
        start = np.zeros(len(rows), dtype=np.int64)
        # From the highest digit down; `start` is what the digits so far amount to.
        queries = self._digits(rows)
        for digit in reversed(range(len(places))):
            i1, i2, j1, j2, d1, d2 = box[digit]
            q = queries[digit][here]
            low, high = np.maximum(j1, q - d2), np.minimum(j2, q - d1)
            alive = (q >= i1) & (q <= i2) & (low <= high)
            here, start, low, high = here[alive], start[alive], low[alive], high[alive]
            place = places[digit]
            if self._is_free_below(box, digit):
                first = start + low * place
                return here, first, first + (high - low + 1) * place
            counts = high - low + 1
            total = int(counts.sum())
            if total > MAX_RUNS:
                raise TooLarge(f"{len(rows):,} rows hold more than {MAX_RUNS:,} ranges of keys")
            value = np.arange(total) - np.repeat(np.cumsum(counts) - counts - low, counts)
            here, start = np.repeat(here, counts), np.repeat(start, counts) + value * place
        raise AssertionError("nothing lies below the lowest digit")

    def _is_free_below(self, box: list[list[int]], digit: int) -> bool:
        """Whether all digits below one may be anything, in query and key."""
        places = self.form.places
        for t in range(digit):
            most = places[t + 1] // places[t] - 1
            if box[t] != [0, most, 0, most, -most, most]:
                return False
        return True

    def transposed(self) -> Boxes:
        return Boxes(self.form.transpose())

    def in_blocks(self, size: int, length: int) -> Boxes:
        return Boxes(self.form.blocks(size, 0, length))

    def zones(self, start: int, stop: int) -> Zones:
        return self.form.restricted(start, stop)


def _zone_tests(
    zone: list[int], top: Ints, bottom: Ints, left: Ints, right: Ints
) -> tuple[Bools, Bools]:
    """Whether a zone meets, and whether it covers, the rectangles of digits."""
    i1, i2, j1, j2, d1, d2 = zone
    up, down = np.maximum(top, i1), np.minimum(bottom, i2)
    near, far = np.maximum(left, j1), np.minimum(right, j2)
    meets = (up <= down) & (near <= far)
    meets &= np.maximum(d1, up - far) <= np.minimum(d2, down - near)
    covers = (top >= i1) & (bottom <= i2) & (left >= j1) & (right <= j2)
    covers &= (top - right >= d1) & (bottom - left <= d2)
    return meets, covers
