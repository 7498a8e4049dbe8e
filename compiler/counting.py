"""Exact numbers of pairs, by whichever way is the shortest."""

from __future__ import annotations

from attnloom.compiler.by_rows import by_rows
from attnloom.compiler.limits import MAX_LENGTH, TooLarge
from attnloom.compiler.regions import Condition, Links, Region
from attnloom.compiler.tiling import tile
from attnloom.compiler.zones import TooComplex

_MOST_ROWS = 1 << 24
_TILE = 128


def count(region: Region, start: int, stop: int) -> int:
    """How many pairs a region holds; all lie within `start..stop`.

    Closed forms serve any length. What has none is counted row by row, or tile by tile.

    Raises:
        TooLarge: it has no closed form and the sequence is too long.
    """
    leaves = list(region.leaves())
    listed = any(isinstance(leaf, Links) for leaf in leaves)
    opaque = any(isinstance(leaf, Condition) for leaf in leaves)
    if not listed and not opaque:
        try:
            return region.zones(start, stop).count()
        except TooComplex:
            pass
    if stop - start > min(_MOST_ROWS, MAX_LENGTH):
        raise TooLarge(f"counting needs a closed form beyond {_MOST_ROWS:,} tokens")
    if opaque or any(isinstance(leaf, Links) and leaf.block > 1 for leaf in leaves):
        return tile(region, start, stop, _TILE, _TILE).reads()
    total = 0
    for _, runs in by_rows(region, start, stop):
        total += int(runs.lengths().sum())
    return total
