"""Places: positions as digits, and the change from one tuple of place values to another.

Place values 1 = p_0 < p_1 < ... < p_k, each dividing the next, write a position as digits, lowest
first: digit t is `position // p_t` modulo `p_{t+1} / p_t`, and the top digit is `position // p_k`,
rounded down, so that only the top digit of a negative position is negative:

    >>> digits_of(np.array([25, -1]), (1, 4, 12)).tolist()
    [[1, 0, 2], [3, 2, -1]]

`refined` splits a digit in two, exactly and in few parts: `i <= b` says that the high half is below
that of b, or equal to it while the low half is at most that of b; `i - j <= d` has three such
cases, because the low halves may borrow one. `merged` joins two digits by listing the pairs of high
digits; it serves places that do not divide each other, such as 4 and 6, which meet at 12.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from attnloom.compiler.zone_arrays import (
    FREE,
    MAX_BOXES,
    MAX_POSITION,
    SIGNS,
    Bools,
    Ints,
    TooComplex,
    disjoint,
    essential,
    expand_ranges,
    tightened,
    total_size,
    zone_areas,
)
from attnloom.compiler.zone_simplify import simplified

Places = tuple[int, ...]

UNITS: Places = (1,)
"""One digit: the position itself."""

_FEW_DIFFERENCES = 128
"""Differences of a high digit that are looked at one by one when digits are given up."""

_MAX_HULLS = 2_000
"""Zones tried in place of boxes over several digits."""


def is_chain(places: Places) -> bool:
    """Whether places ascend from 1, each dividing the next."""
    return places[:1] == (1,) and all(b > a and b % a == 0 for a, b in pairwise(places))


def common_places(a: Places, b: Places) -> Places:
    """Places to which both can be brought: all of them, where two conflict their common multiple.

    >>> common_places((1, 4), (1, 12)), common_places((1, 4), (1, 6))
    ((1, 4, 12), (1, 12))
    """
    places = sorted({*a, *b})
    while True:
        clash = next(((p, q) for p, q in pairwise(places) if q % p), None)
        if clash is None:
            return tuple(places)
        multiple = math.lcm(*clash)
        if multiple > MAX_POSITION:
            raise TooComplex(
                f"places {clash[0]} and {clash[1]} have the common multiple {multiple}"
            )
        places = sorted({*places} - {*clash} | {multiple})


def digits_of(positions: Ints, places: Places) -> Ints:
    """The digits of positions, lowest first: shape `(...)` in, `(..., num_digits)` out."""
    high: Ints = positions[..., None] // np.array(places)
    for t, (place, above) in enumerate(pairwise(places)):
        high[..., t] %= above // place
    return high


def converted(caps: Ints, places: Places, target: Places) -> Ints:
    """The same pairs in boxes over other places."""
    while places != target:
        fine = [p for p in target if p not in places and is_chain(tuple(sorted({*places, p})))]
        if fine:
            place = fine[0]
            t = sum(p < place for p in places) - 1
            caps = refined(caps, t, place // places[t])
            places = (*places[: t + 1], place, *places[t + 1 :])
        else:
            t = next(t for t, p in enumerate(places) if p not in target)
            caps = simplified(merged(caps, t - 1, places[t] // places[t - 1]))
            places = (*places[:t], *places[t + 1 :])
    return caps


def coarsened(caps: Ints, places: Places) -> Ints | None:
    """The same pairs in zones of one digit; `None` when the zones tried hold more pairs.

    Those zones are the hulls of the boxes or, where the high digits of i and j differ by few
    values, of the parts of a box with equal differences.
    """
    if len(places) == 1:
        return caps
    hulls = caps
    for t in range(1, len(places)):
        first, last = -hulls[:, t, 4], hulls[:, t, 5]
        counts = np.where(last - first < _FEW_DIFFERENCES, last - first + 1, 1)
        if int(counts.sum()) > _MAX_HULLS:
            return None
        owner, difference = expand_ranges(first, counts)
        few = counts[owner] > 1
        hulls = hulls[owner]
        hulls[few, t, 4], hulls[few, t, 5] = -difference[few], difference[few]
        hulls = tightened(hulls)
    hulls = (hulls * np.array(places)[:, None]).sum(1, keepdims=True)
    try:
        exact = total_size(disjoint(hulls)) == total_size(disjoint(caps))
    except TooComplex:
        return None
    return simplified(hulls) if exact else None


def refined(caps: Ints, digit: int, size: int) -> Ints:
    """Split a digit x into `x % size` and, above it, `x // size`; disjoint boxes stay disjoint.

    Bounds that follow from others are rounded outwards instead of being split.
    """
    free = essential(caps[:, digit]) == FREE
    bounds = caps[:, digit] * SIGNS
    owner, i = _split_range(bounds[:, 0:2], free[:, 0:2], size)
    again, j = _split_range(bounds[owner, 2:4], free[owner, 2:4], size)
    owner, i = owner[again], i[again]
    again, d = _split_difference(bounds[owner, 4:6], free[owner, 4:6], size)
    owner, i, j = owner[again], i[again], j[again]
    if len(owner) > MAX_BOXES:
        raise TooComplex(f"finer places make {len(owner):,} boxes")
    halves = np.concatenate([i, j, d], axis=2) * SIGNS  # [num, low or high, 6]
    return tightened(
        np.concatenate([caps[owner, :digit], halves, caps[owner, digit + 1 :]], axis=1)
    )


def _split_range(bounds: Ints, free: Bools, size: int) -> tuple[Ints, Ints]:
    """Cut first..last where the high half steps: a begun block, whole blocks, a block broken off.

    Shapes:
        bounds, free: `(num, 2)`; returns the owner of each part and `(num_parts, 2, 2)`: for the
        low and the high half, first and last.
    """
    first, last = bounds[:, 0], bounds[:, 1]
    first = np.where(free[:, 0], first // size * size, first)
    last = np.where(free[:, 1], last // size * size + size - 1, last)
    (high_first, low_first), (high_last, low_last) = divmod(first, size), divmod(last, size)
    begun, broken, same = low_first > 0, low_last < size - 1, high_first == high_last
    zero = np.zeros_like(first)
    top = zero + size - 1
    parts = [
        [low_first, np.where(same, low_last, top), high_first, high_first],
        [zero, top, high_first + begun, high_last - broken],
        [zero, low_last, high_last, high_last],
    ]
    valid = [begun, parts[1][2] <= parts[1][3], broken & ~(same & begun)]
    return _listed(parts, valid)


def _split_difference(bounds: Ints, free: Bools, size: int) -> tuple[Ints, Ints]:
    """Cut d1 <= i - j <= d2 by the difference h of the high halves.

    The low halves then differ by d - size*h, which lies within +-(size - 1). Where h allows all of
    that, one part serves many h; at most two values of h on either side allow some of it.
    """
    span = size - 1
    d1 = np.where(free[:, 0], -FREE, bounds[:, 0])
    d2 = np.where(free[:, 1], FREE, bounds[:, 1])
    all_from, all_to = -((-d1 - span) // size), (d2 - span) // size
    above = np.maximum(all_to + 1, all_from)
    low_span = np.full_like(d1, span)
    parts, valid = [[-low_span, low_span, all_from, all_to]], [all_from <= all_to]
    possible_from, possible_to = -((span - bounds[:, 0]) // size), (bounds[:, 1] + span) // size
    for h, wanted in (
        (all_from - 2, True),
        (all_from - 1, True),
        (above, above <= all_to + 2),
        (above + 1, above < all_to + 2),
    ):
        first, last = np.maximum(d1 - size * h, -span), np.minimum(d2 - size * h, span)
        parts.append([first, last, h, h])
        valid.append(wanted & (first <= last) & (possible_from <= h) & (h <= possible_to))
    return _listed(parts, valid)


def _listed(parts: list[list[Ints]], valid: list[Bools]) -> tuple[Ints, Ints]:
    """The valid parts of all boxes, and the box each belongs to."""
    which, owner = np.nonzero(np.stack(valid))
    table = np.stack([np.stack(part) for part in parts])  # [part, 4, num]
    return owner, table[which, :, owner].reshape(-1, 2, 2)


def merged(caps: Ints, digit: int, size: int) -> Ints:
    """Join a digit of that size and the one above it, one box for each pair of high digits."""
    high = caps[:, digit + 1]
    num_pairs = float(zone_areas(high.astype(np.float64)).sum())
    if num_pairs > MAX_BOXES:
        raise TooComplex(f"coarser places make {num_pairs:,.0f} boxes")
    i_first, i_last, j_first, j_last, d_first, d_last = (high * SIGNS).T
    owner, i = expand_ranges(i_first, i_last - i_first + 1)
    first = np.maximum(j_first[owner], i - d_last[owner])
    last = np.minimum(j_last[owner], i - d_first[owner])
    row, j = expand_ranges(first, last - first + 1)
    owner, i = owner[row], i[row]
    steps = np.stack([-i, i, -j, j, j - i, i - j], axis=1) * size
    joined = caps[owner, digit] + steps
    return np.concatenate([caps[owner, :digit], joined[:, None], caps[owner, digit + 2 :]], axis=1)
