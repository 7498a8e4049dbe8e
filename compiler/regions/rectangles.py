"""Many rectangles as a normal form."""

from __future__ import annotations

import numpy as np

from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import Bounds, TooComplex, Zones

MAX_RECTANGLES = 20_000


def rectangles(
    start: int, stop: int, tops: Ints, bottoms: Ints, lefts: Ints, rights: Ints
) -> Zones:
    """The pairs with `tops[k] <= i < bottoms[k]` and `lefts[k] <= j < rights[k]` for some `k`.

    >>> one = np.array([1])
    >>> rectangles(0, 9, 0 * one, 2 * one, one, 4 * one).count()
    6

    Raises:
        TooComplex: there are too many.
    """
    tops, lefts = np.maximum(tops, start), np.maximum(lefts, start)
    bottoms, rights = np.minimum(bottoms, stop) - 1, np.minimum(rights, stop) - 1
    some = (tops <= bottoms) & (lefts <= rights)
    if not some.any():
        return Zones.empty(start, stop)
    if np.count_nonzero(some) > MAX_RECTANGLES:
        raise TooComplex(f"{np.count_nonzero(some):,} rectangles")
    sides = (x[some].tolist() for x in (tops, bottoms, lefts, rights))
    return Zones.union(
        start, stop, (Bounds((i1, i2), (j1, j2)) for i1, i2, j1, j2 in zip(*sides, strict=True))
    )
