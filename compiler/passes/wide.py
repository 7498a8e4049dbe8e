"""Scattered tokens that everyone reads, or that read everyone, without tiles of their own.

Their tiles would be many and thin. What each row of tiles reads of them is asked column by column,
and what they read row by row, which is far less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.regions import (
    EMPTY,
    FULL,
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


def columns_read(
    wide: Wide, start: int, num_rows: int, block: int
) -> tuple[Ints, Ints, np.ndarray]:
    """What each row of tiles reads of the tokens, column by column.

    Returns:
        The row of tiles and the token of each column that is read at all, and which of its rows
        read it, bool `(num_columns, block)`.
    """
    rows = np.repeat(np.arange(num_rows), len(wide.tokens))
    tokens = np.tile(wide.tokens, num_rows)
    tiles = Tiles(rows * block + start, tokens, block, 1, start)
    kinds, rest = wide.region.classify(tiles), wide.rest.classify(tiles)
    some = np.flatnonzero((kinds != EMPTY) & (rest != FULL))
    reads = np.ones((len(some), block), dtype=np.bool_)
    unsure = np.flatnonzero((kinds[some] == MIXED) | (rest[some] != EMPTY))
    for first in range(0, len(unsure), _MASK_ELEMENTS // block):
        own = unsure[first : first + _MASK_ELEMENTS // block]
        part = tiles.select(some[own])
        reads[own] = (wide.region.dense(part) & ~wide.rest.dense(part))[:, :, 0]
    kept = reads.any(1)
    return rows[some[kept]], tokens[some[kept]], reads[kept]


def rows_read(
    region: Region, tokens: Ints, start: int, num_columns: int, block: int
) -> tuple[Ints, Ints, np.ndarray]:
    """What the tokens read of each column of tiles.

    Returns:
        For each token and column of tiles with a pair: the token's number among the tokens, the
        column, and which of its keys are read, bool `(num_entries, block)`.
    """
    number = np.repeat(np.arange(len(tokens)), num_columns)
    columns = np.tile(np.arange(num_columns), len(tokens))
    tiles = Tiles(tokens[number], columns * block + start, 1, block, start)
    kinds = region.classify(tiles)
    some = np.flatnonzero(kinds != EMPTY)
    reads = np.ones((len(some), block), dtype=np.bool_)
    unsure = np.flatnonzero(kinds[some] == MIXED)
    for first in range(0, len(unsure), _MASK_ELEMENTS // block):
        own = unsure[first : first + _MASK_ELEMENTS // block]
        reads[own] = region.dense(tiles.select(some[own]))[:, 0, :]
    kept = reads.any(1)
    return number[some[kept]], columns[some[kept]], reads[kept]
