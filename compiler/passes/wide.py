"""Scattered tokens that everyone reads, or that read everyone, without tiles of their own.

Their tiles would be many and thin. What each row of tiles reads of them is asked column by column,
and what they read row by row, which is far less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.alike import alike
from attnloom.compiler.bits import Bytes, different, ranges
from attnloom.compiler.regions import (
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
from attnloom.compiler.zones import TooComplex

_MOST_ENTRIES = 1 << 22
_TOKENS_AT_ONCE = 256
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
    region: Region, start: int, stop: int, block_m: int, block_n: int
) -> tuple[Region, tuple[Wide, ...]]:
    """What is left of a region over `start..stop`, and its parts about scattered tokens."""
    parts = region.parts if isinstance(region, Either) else (region,)
    found: list[tuple[Region, Ints, bool]] = []
    for part in parts:
        axis = _axis(part)
        if axis is None:
            continue
        is_columns = isinstance(axis, Columns)
        own, other = (block_n, block_m) if is_columns else (block_m, block_n)
        if len(axis.tokens) * ((stop - start) // other + 1) > _MOST_ENTRIES:
            continue
        runs = zip(*axis.tokens.runs, strict=True)
        tokens = np.concatenate([_NONE, *(np.arange(first, last) for first, last in runs)])
        if _are_scattered(tokens - start, own):
            found.append((part, tokens, is_columns))
    if not found:
        return region, ()
    taken = [part for part, _, _ in found]
    left = [part for part in parts if not any(part is one for one in taken)]
    rest = either(*left) if left else Nothing()
    wide: list[Wide] = []
    seen: list[Region] = []
    for part, tokens, is_columns in found:
        before = either(rest, *seen) if seen else rest
        wide.append(Wide(part, before, tokens, is_columns))
        seen.append(part)
    return rest, tuple(wide)


def _are_scattered(places: Ints, block: int) -> bool:
    """Whether together they would fill far fewer blocks than they are in."""
    return len(np.unique(places // block)) > 2 * -(-len(places) // block)


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
    """What single tokens share with stretches of `block` positions.

    `table` is 0 where nothing is shared, or else tells the row of `bits` plus 1.

    Shapes:
        table: int32 `(num_tokens, num_stretches)`
        bits: `(num_different, ceil(block / 8))`
    """

    table: NDArray[np.int32]
    bits: Bytes


def rows_read(region: Region, tokens: Ints, start: int, num_stretches: int, block: int) -> Reads:
    """What the tokens read of each column of tiles."""
    table = np.zeros((len(tokens), num_stretches), dtype=np.int32)
    full = ranges(np.zeros(1, dtype=np.int64), np.full(1, block), block)
    rows = [full]
    cells: list[Ints] = []
    for begin in range(0, len(tokens), _TOKENS_AT_ONCE):
        some = slice(begin, begin + _TOKENS_AT_ONCE)
        token, stretch, bits = _read(region, tokens[some], start, block, table[some])
        rows.append(bits)
        cells.append((token + begin) * num_stretches + stretch)
    first, number = different(np.concatenate(rows)[:, None])
    table.reshape(-1)[np.concatenate([_NONE, *cells])] = number[1:] + 1
    return Reads(table, np.concatenate(rows)[first])


_Partial = tuple[Ints, Ints, Bytes]
"""Numbers of tokens and of stretches, `(num,)` each, and what the tokens read of them."""


def _read(
    region: Region, tokens: Ints, start: int, block: int, table: NDArray[np.int32]
) -> _Partial:
    """Set the table to 1 where tokens read whole stretches, and give those they read in part."""
    try:
        runs = region.runs(tokens)
    except TooComplex:  # in another order rows have no ranges
        return _asked(region, tokens, start, block, table)
    token, begin, end = runs.rows, runs.starts - start, runs.stops - start
    head, tail = begin // block, end // block
    whole = head + (begin % block > 0)
    steps = np.zeros((len(table), table.shape[1] + 1), dtype=np.int32)
    long = np.flatnonzero(whole < tail)
    np.add.at(steps, (token[long], whole[long]), 1)
    np.add.at(steps, (token[long], tail[long]), -1)
    np.cumsum(steps[:, :-1], axis=1, out=table)
    # What is left of a range lies in its first and in its last stretch.
    at_head = np.flatnonzero(whole > head)
    at_tail = np.flatnonzero((end % block > 0) & ~((whole > head) & (tail == head)))
    run = np.concatenate([at_head, at_tail])
    stretch = np.concatenate([head[at_head], tail[at_tail]])
    # Ranges of one token in one stretch are put together.
    order = np.lexsort((stretch, token[run]))
    run, stretch = run[order], stretch[order]
    bits = ranges(begin[run] - stretch * block, end[run] - stretch * block, block)
    token = token[run]
    is_first = np.ones(len(token), dtype=np.bool_)
    is_first[1:] = (token[1:] != token[:-1]) | (stretch[1:] != stretch[:-1])
    heads = np.flatnonzero(is_first)
    if len(heads) < len(token):
        bits = np.bitwise_or.reduceat(bits, heads, axis=0)
    return token[heads], stretch[heads], bits


def _asked(
    region: Region, tokens: Ints, start: int, block: int, table: NDArray[np.int32]
) -> _Partial:
    """The same, by asking for every stretch."""
    num_stretches = table.shape[1]
    token = np.repeat(np.arange(len(tokens)), num_stretches)
    stretch = np.tile(np.arange(num_stretches), len(tokens))
    tiles = Tiles(tokens[token], stretch * block + start, 1, block, start)
    kinds = region.classify(tiles)
    table[:] = (kinds == FULL).reshape(table.shape)
    unsure = np.flatnonzero(kinds == MIXED)
    groups, first = alike(region.signature(tiles.select(unsure)))
    bits = region.bits(tiles.select(unsure[first]))[groups, 0]
    some = bits.any(1)
    partial = unsure[some]
    return token[partial], stretch[partial], bits[some]
