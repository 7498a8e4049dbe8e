"""Bands: rectangles cut by two diagonals, perhaps in steps; windows, causal masks, strides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnloom.compiler.limits import MAX_RUNS, TooLarge
from attnloom.compiler.regions.base import EMPTY, FULL, MIXED, Bools, Kinds, Region, Tiles
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
    """The union of some bands, each tight."""

    bands: tuple[Band, ...]

    @classmethod
    def of(cls, *bands: Band) -> Bands:
        """The union of bands, without those that are empty or inside another."""
        tight = [t for band in dict.fromkeys(bands) if (t := band.tightened()) is not None]
        if len(tight) > 1 and len(tight) <= _MOST_COMPARED:
            tight = [
                one for at, one in enumerate(tight)
                if not any(
                    other.covers(one) and (at > where or not one.covers(other))
                    for where, other in enumerate(tight) if where != at
                )
            ]  # fmt: skip
        return cls(tuple(tight))

    def contains(self, i: Ints, j: Ints) -> Bools:
        d = i - j
        found = np.zeros(np.shape(d), dtype=np.bool_)
        for b in self.bands:
            inside = (d >= b.d1) & (d <= b.d2)
            inside &= (i >= b.i1) & (i <= b.i2) & (j >= b.j1) & (j <= b.j2)
            if b.step > 1:
                inside &= d % b.step == b.phase
            found |= inside
        return found

    def classify(self, tiles: Tiles) -> Kinds:
        kinds = np.full(len(tiles), EMPTY, dtype=np.uint8)
        for band in self.bands:
            kinds[_meets(band, tiles) & (kinds == EMPTY)] = MIXED
            kinds[_covers(band, tiles)] = FULL
        return kinds

    def signature(self, tiles: Tiles) -> Ints:
        height, width = tiles.height, tiles.width
        difference = tiles.rows - tiles.columns
        columns = []
        for b in self.bands:
            parts = [
                np.clip(b.i1 - tiles.rows, 0, height),
                np.clip(b.i2 + 1 - tiles.rows, 0, height),
                np.clip(b.j1 - tiles.columns, 0, width),
                np.clip(b.j2 + 1 - tiles.columns, 0, width),
                np.clip(b.d1 - difference, -width, height),
                np.clip(b.d2 - difference, -width, height),
            ]
            if b.step > 1:
                parts.append((difference - b.phase) % b.step)
            meets, covers = _meets(b, tiles), _covers(b, tiles)
            # Two more values than any part has: the band covers the tile, or misses it.
            whole, absent = -width - 1, -width - 2
            columns += [np.where(covers, whole, np.where(meets, x, absent)) for x in parts]
        return np.stack(columns, axis=1) if columns else np.zeros((len(tiles), 0), dtype=np.int64)

    def runs(self, rows: Ints) -> Runs:
        found: list[tuple[Any, Any, Any]] = []
        total = 0
        for b in self.bands:
            here = np.flatnonzero((rows >= b.i1) & (rows <= b.i2))
            i = rows[here]
            first, last = np.maximum(b.j1, i - b.d2), np.minimum(b.j2, i - b.d1)
            if b.step == 1:
                found.append((here, first, last + 1))
                total += len(here)
                continue
            first = first + (i - b.phase - first) % b.step
            counts = np.maximum(0, (last - first) // b.step + 1)
            total += int(counts.sum())
            if total > MAX_RUNS:
                break
            ends = np.cumsum(counts)
            places = np.arange(int(ends[-1]) if len(ends) else 0)
            places = places - np.repeat(ends - counts, counts)
            keys = np.repeat(first, counts) + b.step * places
            found.append((np.repeat(here, counts), keys, keys + 1))
        if total > MAX_RUNS:
            raise TooLarge(f"{len(rows):,} rows hold more than {MAX_RUNS:,} ranges of keys")
        if len(found) == 1 and self.bands[0].step == 1 and len(found[0][0]) == len(rows):
            return Runs.one_each(found[0][1], found[0][2])
        if not found:
            return Runs.empty(len(rows))
        row, start, stop = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Runs.of_ranges(len(rows), row, start, stop)

    def transposed(self) -> Bands:
        return Bands(
            tuple(
                Band(b.j1, b.j2, b.i1, b.i2, -b.d2, -b.d1, b.step, -b.phase % b.step)
                for b in self.bands
            )
        )

    def in_blocks(self, size: int, length: int) -> Region:
        from attnloom.compiler.regions.boxes import Boxes

        return Boxes.of_blocks(self, size, length)

    def zones(self, start: int, stop: int) -> Zones:
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


def _meets(b: Band, tiles: Tiles) -> Bools:
    """Whether a band has a pair in each tile; exact."""
    top = np.maximum(b.i1, tiles.rows)
    bottom = np.minimum(b.i2, tiles.rows + (tiles.height - 1))
    left = np.maximum(b.j1, tiles.columns)
    right = np.minimum(b.j2, tiles.columns + (tiles.width - 1))
    low, high = np.maximum(b.d1, top - right), np.minimum(b.d2, bottom - left)
    if b.step > 1:
        low = low + (b.phase - low) % b.step
    return (top <= bottom) & (left <= right) & (low <= high)


def _covers(b: Band, tiles: Tiles) -> Bools:
    """Whether a band has every pair of each tile; exact but for tiles of one row or column."""
    if b.step > 1:
        return np.zeros(len(tiles), dtype=np.bool_)
    difference = tiles.rows - tiles.columns
    return (
        (b.i1 <= tiles.rows) & (tiles.rows + (tiles.height - 1) <= b.i2)
        & (b.j1 <= tiles.columns) & (tiles.columns + (tiles.width - 1) <= b.j2)
        & (b.d1 <= difference - (tiles.width - 1)) & (difference + (tiles.height - 1) <= b.d2)
    )  # fmt: skip
