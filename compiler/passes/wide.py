"""Scattered tokens that everyone reads, or that read everyone, without tiles of their own.

Their tiles would be many and thin. What each row of tiles reads of them is asked column by column,
and what they read row by row, which is far less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.alike import alike, sortable
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
    found = [
        _read(region, tokens[first : first + _TOKENS_AT_ONCE], start, num_stretches, block)
        for first in range(0, len(tokens), _TOKENS_AT_ONCE)
    ]
    codes = [
        (token + step * _TOKENS_AT_ONCE, stretch)
        for is_full in (True, False)
        for step, (whole, partial, _) in enumerate(found)
        for token, stretch in [whole if is_full else partial]
    ]
    number, stretch = (np.concatenate(one) for one in zip(*codes, strict=True))
    full = ranges(np.zeros(1, dtype=np.int64), np.full(1, block), block)
    rows = np.concatenate([full, *(bits for _, _, bits in found)])
    first, which = different(rows[:, None])
    ids = np.zeros(len(number), dtype=np.int64)
    ids[len(number) + 1 - len(rows) :] = which[1:]
    order = np.lexsort((sortable(number, len(tokens)), sortable(stretch, num_stretches)))
    return Reads(number[order], stretch[order], ids[order], rows[first])


_Entries = tuple[Ints, Ints]
"""Numbers of tokens and of stretches, `(num_entries,)` each."""


def _read(
    region: Region, tokens: Ints, start: int, num_stretches: int, block: int
) -> tuple[_Entries, _Entries, Bytes]:
    """The stretches that tokens read whole, those that they read in part, and what of these."""
    try:
        runs = region.runs(tokens)
    except TooComplex:  # in another order rows have no ranges
        return _asked(region, tokens, start, num_stretches, block)
    first, last = (runs.starts - start) // block, (runs.stops - 1 - start) // block
    counts = last - first + 1
    run = np.repeat(np.arange(len(counts)), counts)
    stretch = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    token = runs.rows[run]
    begin = stretch * block + start
    left, right = runs.starts[run] - begin, runs.stops[run] - begin
    is_full = (left <= 0) & (right >= block)
    whole = token[is_full], stretch[is_full]
    partial = np.flatnonzero(~is_full)
    token, stretch = token[partial], stretch[partial]
    bits = ranges(left[partial], right[partial], block)
    # Ranges of one token in one stretch follow each other.
    is_first = np.ones(len(token), dtype=np.bool_)
    is_first[1:] = (token[1:] != token[:-1]) | (stretch[1:] != stretch[:-1])
    heads = np.flatnonzero(is_first)
    if len(heads) < len(token):
        bits = np.bitwise_or.reduceat(bits, heads, axis=0)
    return whole, (token[heads], stretch[heads]), bits


def _asked(
    region: Region, tokens: Ints, start: int, num_stretches: int, block: int
) -> tuple[_Entries, _Entries, Bytes]:
    """The same, by asking for every stretch."""
    token = np.repeat(np.arange(len(tokens)), num_stretches)
    stretch = np.tile(np.arange(num_stretches), len(tokens))
    tiles = Tiles(tokens[token], stretch * block + start, 1, block, start)
    kinds = region.classify(tiles)
    whole, unsure = np.flatnonzero(kinds == FULL), np.flatnonzero(kinds == MIXED)
    groups, first = alike(region.signature(tiles.select(unsure)))
    bits = region.bits(tiles.select(unsure[first]))[groups, 0]
    some = bits.any(1)
    partial = unsure[some]
    return (token[whole], stretch[whole]), (token[partial], stretch[partial]), bits[some]
