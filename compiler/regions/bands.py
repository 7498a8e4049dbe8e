"""Bands: rectangles cut by two diagonals, perhaps in steps; windows, causal masks, strides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from attnloom.compiler.bits import ranges
from attnloom.compiler.limits import MAX_RUNS, TooLarge
from attnloom.compiler.regions.base import EMPTY, FULL, MIXED, Bools, Bytes, Kinds, Region, Tiles
from attnloom.compiler.runs import Ints, Runs
from attnloom.compiler.zones import Zones

FAR = 1 << 50
"""Beyond every position and every difference of two."""


@dataclass(frozen=True, slots=True)
class Band:
    """The pairs with `i`, `j` and `i - j` within bounds, and `(i - j) % step == phase`.

    All bounds are inclusive; the phase is below the step.
    """

    i1: int = -FAR
    i2: int = FAR
    j1: int = -FAR
    j2: int = FAR
    d1: int = -FAR
    d2: int = FAR
    step: int = 1
    phase: int = 0

    def tightened(self) -> Band | None:
        """The same pairs with the closest bounds, or `None` when there are none."""
        d1 = max(self.d1, self.i1 - self.j2)
        d2 = min(self.d2, self.i2 - self.j1)
        if self.step > 1:
            d1 += (self.phase - d1) % self.step
            d2 -= (d2 - self.phase) % self.step
        i1, i2 = max(self.i1, self.j1 + d1), min(self.i2, self.j2 + d2)
        j1, j2 = max(self.j1, self.i1 - d2), min(self.j2, self.i2 - d1)
        if i1 > i2 or j1 > j2 or d1 > d2:
            return None
        return Band(i1, i2, j1, j2, d1, d2, self.step, self.phase)

    def meet(self, other: Band) -> Band | None:
        """The pairs that both have."""
        step, phase = self.step, self.phase
        if other.step > 1:
            joined = _both_residues(step, phase, other.step, other.phase)
            if joined is None:
                return None
            step, phase = joined
        return Band(
            max(self.i1, other.i1), min(self.i2, other.i2),
            max(self.j1, other.j1), min(self.j2, other.j2),
            max(self.d1, other.d1), min(self.d2, other.d2), step, phase,
        ).tightened()  # fmt: skip

    def covers(self, other: Band) -> bool:
        """Whether every pair of the other, which is tight, is certainly in this one."""
        return (
            self.i1 <= other.i1 and other.i2 <= self.i2
            and self.j1 <= other.j1 and other.j2 <= self.j2
            and self.d1 <= other.d1 and other.d2 <= self.d2
            and (
                self.step == 1
                or (other.step % self.step == 0 and other.phase % self.step == self.phase)
                or (other.d1 == other.d2 and other.d1 % self.step == self.phase)
            )
        )  # fmt: skip


def _both_residues(m: int, a: int, n: int, b: int) -> tuple[int, int] | None:
    """The modulus and residue of the numbers that are `a` modulo `m` and `b` modulo `n`."""
    common = int(np.gcd(m, n))
    if (b - a) % common:
        return None
    factor = (b - a) // common * pow(m // common, -1, n // common) if n > common else 0
    step = m // common * n
    return step, (a + m * factor) % step


@dataclass(frozen=True, eq=False)
class Bands(Region):
    """The union of some bands, each tight; of blocks of `block` tokens if it is above 1."""

    bands: tuple[Band, ...]
    block: int = 1

    @classmethod
    def of(cls, *bands: Band, block: int = 1) -> Bands:
        """The union of bands, without those that are empty or inside another."""
        tight = [t for band in dict.fromkeys(bands) if (t := band.tightened()) is not None]
        if 1 < len(tight) <= _MOST_COMPARED:
            tight = [one for at, one in enumerate(tight) if not _is_covered(at, one, tight)]
        return cls(tuple(tight), block)

    def contains(self, i: Ints, j: Ints) -> Bools:
        if self.block > 1:
            i, j = i // self.block, j // self.block
        d = i - j
        found = np.zeros(np.shape(d), dtype=np.bool_)
        for b in self.bands:
            inside = (d >= b.d1) & (d <= b.d2)
            inside &= (i >= b.i1) & (i <= b.i2) & (j >= b.j1) & (j <= b.j2)
            if b.step > 1:
                inside &= d % b.step == b.phase
            found |= inside
        return found

    def _corners(self, tiles: Tiles) -> _Corners:
        """The first and last query and key of each tile, in blocks."""
        ends = (
            tiles.rows, tiles.rows + (tiles.height - 1),
            tiles.columns, tiles.columns + (tiles.width - 1),
        )  # fmt: skip
        return _Corners(*(ends if self.block == 1 else (end // self.block for end in ends)))

    def classify(self, tiles: Tiles) -> Kinds:
        corners = self._corners(tiles)
        kinds = np.full(len(tiles), EMPTY, dtype=np.uint8)
        for band in self.bands:
            kinds[_meets(band, corners) & (kinds == EMPTY)] = MIXED
            kinds[_covers(band, corners)] = FULL
        return kinds

    def signature(self, tiles: Tiles) -> Ints:
        corners = self._corners(tiles)
        query, key = corners.top, corners.left
        tall, wide = tiles.height, tiles.width
        phase: list[Ints] = []
        if self.block > 1:
            tall, wide = tall // self.block + 2, wide // self.block + 2
            phase = [tiles.rows % self.block, tiles.columns % self.block]
        difference = query - key
        columns = []
        for b in self.bands:
            parts = [
                *phase,
                np.clip(b.i1 - query, 0, tall),
                np.clip(b.i2 + 1 - query, 0, tall),
                np.clip(b.j1 - key, 0, wide),
                np.clip(b.j2 + 1 - key, 0, wide),
                np.clip(b.d1 - difference, -wide, tall),
                np.clip(b.d2 - difference, -wide, tall),
            ]
            if b.step > 1:
                parts.append((difference - b.phase) % b.step)
            meets, covers = _meets(b, corners), _covers(b, corners)
            # Two more values than any part has: the band covers the tile, or misses it.
            whole, absent = -wide - 1, -wide - 2
            columns += [np.where(covers, whole, np.where(meets, x, absent)) for x in parts]
        return np.stack(columns, axis=1) if columns else np.zeros((len(tiles), 0), dtype=np.int64)

    def dense(self, tiles: Tiles) -> Bools:
        if self.block > 1 or max(tiles.height, tiles.width) > _MOST_LOCAL:
            return super().dense(tiles)
        # In numbers relative to the tile, which are small.
        down = np.arange(tiles.height, dtype=np.int16)[:, None]
        across = np.arange(tiles.width, dtype=np.int16)
        apart = down - across
        found = np.zeros((len(tiles), tiles.height, tiles.width), dtype=np.bool_)

        def local(bound: Ints) -> Any:
            clipped = np.clip(bound, -2 * _MOST_LOCAL, 2 * _MOST_LOCAL)
            return clipped.astype(np.int16)[:, None, None]

        difference = tiles.rows - tiles.columns
        for b in self.bands:
            inside = (apart >= local(b.d1 - difference)) & (apart <= local(b.d2 - difference))
            inside &= (down >= local(b.i1 - tiles.rows)) & (down <= local(b.i2 - tiles.rows))
            inside &= (across >= local(b.j1 - tiles.columns)) & (
                across <= local(b.j2 - tiles.columns)
            )
            if b.step > 1:
                phase = ((difference - b.phase) % b.step)[:, None, None]
                inside &= (apart + phase) % b.step == 0
            found |= inside
        return found

    def bits(self, tiles: Tiles) -> Bytes:
        if self.block > 1 or any(b.step > 1 for b in self.bands):
            return super().bits(tiles)
        found = np.zeros((len(tiles), tiles.height, -(-tiles.width // 8)), dtype=np.uint8)
        for band in self.bands:
            found |= ranges(*_spans(band, tiles), tiles.width)
        return found

    def spans(self, tiles: Tiles) -> tuple[Ints, Ints] | None:
        if self.block > 1 or len(self.bands) != 1 or self.bands[0].step > 1:
            return None
        return _spans(self.bands[0], tiles)

    def runs(self, rows: Ints) -> Runs:
        found: list[tuple[Any, Any, Any]] = []
        queries = rows // self.block
        total = 0
        for b in self.bands:
            here = np.flatnonzero((queries >= b.i1) & (queries <= b.i2))
            i = queries[here]
            first, last = np.maximum(b.j1, i - b.d2), np.minimum(b.j2, i - b.d1)
            if b.step > 1:
                first = first + (i - b.phase - first) % b.step
                counts = np.maximum(0, (last - first) // b.step + 1)
                if total + int(counts.sum()) <= MAX_RUNS:
                    here, first = _progressions(here, first, counts, b.step)
                    last = first
            total += len(here) if b.step == 1 else int(counts.sum())
            if total > MAX_RUNS:
                raise TooLarge(f"{len(rows):,} rows hold more than {MAX_RUNS:,} ranges of keys")
            found.append((here, first * self.block, (last + 1) * self.block))
        if not found:
            return Runs.empty(len(rows))
        if len(found) == 1 and self.bands[0].step == 1 and len(found[0][0]) == len(rows):
            return Runs.one_each(found[0][1], found[0][2])
        row, start, stop = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Runs.of_ranges(len(rows), row, start, stop)

    def transposed(self) -> Bands:
        turned = (
            Band(b.j1, b.j2, b.i1, b.i2, -b.d2, -b.d1, b.step, -b.phase % b.step)
            for b in self.bands
        )
        return Bands(tuple(turned), self.block)

    def in_blocks(self, size: int, length: int) -> Bands:
        return Bands(self.bands, self.block * size)

    def zones(self, start: int, stop: int) -> Zones:
        if self.block > 1:
            first, last = start // self.block, -(-stop // self.block)
            return Bands(self.bands).zones(first, last).blocks(self.block, start, stop)
        found = Zones.empty(start, stop)
        for b in self.bands:
            within = b.meet(Band(start, stop - 1, start, stop - 1))
            if within is None:
                continue
            zone = Zones.zone(
                start, stop, i=(within.i1, within.i2), j=(within.j1, within.j2),
                d=(within.d1, within.d2),
            )  # fmt: skip
            if b.step > 1:
                zone = zone & Zones.band(start, stop, within.d1, within.d2, step=b.step)
            found = found | zone
        return found


_MOST_COMPARED = 64
_MOST_LOCAL = 4096


class _Corners(NamedTuple):
    top: Ints
    bottom: Ints
    left: Ints
    right: Ints


def _is_covered(at: int, one: Band, bands: list[Band]) -> bool:
    """Whether another of the bands covers one; of two equal ones the later is covered."""
    return any(
        other.covers(one) and (where < at or not one.covers(other))
        for where, other in enumerate(bands)
        if where != at
    )


def _progressions(here: Ints, first: Ints, counts: Ints, step: int) -> tuple[Ints, Ints]:
    """Each `here` as often as it counts, with `first`, `first + step`, and so on."""
    total = int(counts.sum())
    places = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(here, counts), np.repeat(first, counts) + step * places


def _spans(b: Band, tiles: Tiles) -> tuple[Ints, Ints]:
    """What each row of each tile reads of a band without steps, as `Region.spans` has it."""
    queries, left = tiles.queries, tiles.columns[:, None]
    first = np.maximum(b.j1, queries - b.d2)
    first -= left
    stop = np.minimum(b.j2, queries - b.d1)
    stop += 1 - left
    if len(tiles) and not (b.i1 <= int(queries.min()) and int(queries.max()) <= b.i2):
        stop[(queries < b.i1) | (queries > b.i2)] = -1
        first[(queries < b.i1) | (queries > b.i2)] = 0
    return first, stop


def _meets(b: Band, tile: _Corners) -> Bools:
    """Whether a band has a pair in each tile; exact."""
    top, bottom = np.maximum(b.i1, tile.top), np.minimum(b.i2, tile.bottom)
    left, right = np.maximum(b.j1, tile.left), np.minimum(b.j2, tile.right)
    low, high = np.maximum(b.d1, top - right), np.minimum(b.d2, bottom - left)
    if b.step > 1:
        low = low + (b.phase - low) % b.step
    return np.asarray((top <= bottom) & (left <= right) & (low <= high))


def _covers(b: Band, tile: _Corners) -> Bools:
    """Whether a band has every pair of each tile; exact but for tiles of one row or column."""
    if b.step > 1:
        return np.zeros(len(tile.top), dtype=np.bool_)
    return (
        (b.i1 <= tile.top) & (tile.bottom <= b.i2)
        & (b.j1 <= tile.left) & (tile.right <= b.j2)
        & (b.d1 <= tile.top - tile.right) & (tile.bottom - tile.left <= b.d2)
    )  # fmt: skip
