"""Scattered tokens that everyone reads, or that read everyone, without tiles of their own.

Their tiles would be many and thin. What each row of tiles reads of them is asked column by column,
and what they read row by row, which is far less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.bits import Bytes, different, ranges
from attnloom.compiler.regions import (
    EMPTY,
    MIXED,
    Columns,
    Nothing,
    Region,
    Rows,
    Tiles,
    either,
)
from attnloom.compiler.regions.base import Both, Either, Minus
from attnloom.compiler.runs import Ints

_MOST_ENTRIES = 1 << 22
_MASK_ELEMENTS = 1 << 24
_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Wide:
    """A part of a region whose keys, or whose queries, are all in a set of scattered tokens.

    `rest` are the pairs that are worked on elsewhere and must not be counted here.
    """

    region: Region
    rest: Region
    tokens: Ints
    is_columns: bool

    def transposed(self) -> Wide:
        turned = self.region.transposed(), self.rest.transposed()
        return Wide(*turned, self.tokens, not self.is_columns)


def take_wide(
    region: Region, length: int, block_m: int, block_n: int
) -> tuple[Region, tuple[Wide, ...]]:
    """What is left of a region, and its parts about scattered tokens."""
    parts = region.parts if isinstance(region, Either) else (region,)
    found: list[tuple[Region, Rows | Columns]] = []
    for part in parts:
        axis = _axis(part)
        if axis is not None:
            size = block_m if isinstance(axis, Columns) else block_n
            if len(axis.tokens) * (length // size + 1) <= _MOST_ENTRIES:
                found.append((part, axis))
    if not found:
        return region, ()
    taken = [part for part, _ in found]
    left = [part for part in parts if not any(part is one for one in taken)]
    rest = either(*left) if left else Nothing()
    wide: list[Wide] = []
    seen: list[Region] = []
    for part, axis in found:
        runs = zip(*axis.tokens.runs, strict=True)
        tokens = np.concatenate([_NONE, *(np.arange(start, stop) for start, stop in runs)])
        before = either(rest, *seen) if seen else rest
        wide.append(Wide(part, before, tokens, isinstance(axis, Columns)))
        seen.append(part)
    return rest, tuple(wide)


def _axis(region: Region) -> Rows | Columns | None:
    """The token set that all keys, or all queries, of a region come from."""
    match region:
        case Rows() | Columns():
            return region
        case Both(parts=parts):
            return next((found for part in parts if (found := _axis(part)) is not None), None)
        case Minus(part=part):
            return _axis(part)
    return None


def columns_read(wide: Wide, start: int, num_rows: int, block: int) -> Reads:
    """What each row of tiles reads of the tokens, token by token."""
    region = Minus(wide.region, wide.rest).transposed()
    return rows_read(region, wide.tokens, start, num_rows, block)


@dataclass(frozen=True, eq=False)
class Reads:
    """What single tokens share with stretches of `block` positions, an entry for each such pair.

    Entries are those with a pair, by stretches and then by tokens. `bits` are different rows of
    bits, the first of them full, and `ids` say which an entry has.

    Shapes:
        tokens, stretches, ids: `(num_entries,)`, the number of a token and of a stretch
        bits: `(num_different, ceil(block / 8))`
    """

    tokens: Ints
    stretches: Ints
    ids: Ints
    bits: Bytes


def rows_read(region: Region, tokens: Ints, start: int, num_stretches: int, block: int) -> Reads:
    """What the tokens read of each column of tiles."""
    number = np.tile(np.arange(len(tokens)), num_stretches)
    stretch = np.repeat(np.arange(num_stretches), len(tokens))
    tiles = Tiles(tokens[number], stretch * block + start, 1, block, start)
    kinds = region.classify(tiles)
    unsure = np.flatnonzero(kinds == MIXED)
    step = _MASK_ELEMENTS // block
    found = [
        region.bits(tiles.select(unsure[first : first + step]))[:, 0]
        for first in range(0, len(unsure), step)
    ]
    full = ranges(np.zeros(1, dtype=np.int64), np.full(1, block), block)
    rows = np.concatenate([full, *found])
    first, which = different(rows[:, None])
    ids = np.zeros(len(number), dtype=np.int64)
    ids[unsure] = which[1:]
    kept = kinds != EMPTY
    kept[unsure] = rows[1:].any(1)
    return Reads(number[kept], stretch[kept], ids[kept], rows[first])
