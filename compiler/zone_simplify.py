"""Keeps unions of boxes small: drops boxes that lie in others, lets boxes grow into each other.

The hull of two zones, the larger of each cap, is *exact* when it holds nothing else. A box grows
over a neighbour when it lies inside the neighbour in all digits but one and in that digit the hull
of the two is exact: the grown box covers no new pair. What then lies in the grown box is dropped,
so that gluing two pieces of a range is the simplest case of growing.
"""

from __future__ import annotations

import numpy as np

from attnloom.compiler.zone_arrays import (
    MAX_BOXES,
    Bools,
    Ints,
    TooComplex,
    all_along,
    any_along,
    carved_by_larger,
    chunks,
    meeting_pairs,
)

_PIVOTS = 32
"""Boxes compared with all others at a time."""

_FEW = 4096
"""Up to so many boxes, comparing each with each is quick enough."""

_MAX_PAIRS = 500_000
"""Pairs of neighbours looked at; unions with more stay as they are."""

_MAX_ROUNDS = 24
"""Rounds of growth; each roughly doubles what has been glued."""

# Cap e bounds x_e - y_e, where nodes 0, 1, 2 are the number zero, i and j.
_X = np.array([0, 1, 0, 2, 2, 1])
_Y = np.array([1, 0, 2, 0, 1, 2])
_CAP_OF = np.array([[6, 0, 2], [1, 6, 5], [3, 4, 6]])  # x, y -> cap; 6 stands for x - x <= 0
_CROSS = _CAP_OF[_X[:, None], _Y[None, :]]  # the cap on x_e - y_f


def is_hull_exact(a: Ints, b: Ints) -> Bools:
    """Whether the hull of two tight zones is their union: `(num, 6)` twice in, `(num,)` out.

    A pair of the hull outside both zones violates some cap e of `a` and some cap f of `b`. With
    the hull's caps h, there is such a pair when each violation alone is possible (a_e < h_e and
    b_f < h_f) and so are both: they ask for (x_e - y_f) + (x_f - y_e) >= a_e + b_f + 2.
    """
    hull = np.maximum(a, b)
    padded = np.concatenate([hull, np.zeros((len(hull), 1), dtype=np.int64)], axis=1)
    above = padded[:, _CROSS]  # [num, 6, 6]
    room = above + above.swapaxes(1, 2) - (a[:, :, None] + b[:, None, :] + 2)
    outside = (a < hull)[:, :, None] & (b < hull)[:, None, :] & (room >= 0)
    return ~any_along(outside, (1, 2))


def without_contained(caps: Ints) -> Ints:
    """Drop every box that lies inside another one, and all but one of equal boxes."""
    if len(caps) < 2:
        return caps
    caps = _without_contained(caps)
    if len(caps) > MAX_BOXES:
        raise TooComplex(f"a union of {len(caps):,} boxes, over the limit of {MAX_BOXES:,}")
    return caps


def _without_contained(caps: Ints) -> Ints:
    # A box inside another has a smaller sum of caps, so containers come first.
    caps = caps[np.argsort(-caps.sum((1, 2)), kind="stable")]
    num_kept = 0
    while True:
        pivots, rest = caps[num_kept : num_kept + _PIVOTS], caps[num_kept:]
        inside = all_along(rest[:, None] <= pivots, (2, 3))
        itself = np.arange(len(pivots))
        inside[itself] &= itself[:, None] > itself  # pivots fall only to earlier pivots
        dropped = any_along(inside, 1)
        num_dropped = int(dropped.sum())
        caps = np.concatenate([caps[:num_kept], rest[~dropped]]) if num_dropped else caps
        num_kept += len(pivots) - int(dropped[itself].sum())
        if num_kept >= len(caps):
            return caps
        if len(caps) > _FEW and num_dropped * 16 < len(rest):
            return _without_contained_in_neighbours(caps)


def _without_contained_in_neighbours(caps: Ints) -> Ints:
    """The same for many boxes of which few lie in others; gives up where too many overlap."""
    try:
        x, y = meeting_pairs(caps, caps)
    except TooComplex:
        return caps
    x, y = x[y < x], y[y < x]
    dropped = [p[all_along(caps[p] <= caps[q], (1, 2))] for p, q in chunks(x, y)]
    return np.delete(caps, np.concatenate([*dropped, x[:0]]), axis=0)


def without_covered(caps: Ints) -> Ints:
    """Drop every box that larger ones cover together."""
    try:
        _, owners = carved_by_larger(caps)
    except TooComplex:
        return caps
    return caps[np.unique(owners)]


def grown(caps: Ints) -> Ints | None:
    """Each box grown over one of its neighbours; `None` when no box can grow.

    The boxes may all grow at once: none ever covers more than the union does.
    """
    try:
        small, large = meeting_pairs(caps, caps, gap=1, limit=_MAX_PAIRS)
    except TooComplex:
        return None
    found = [_growth(caps, p, q) for p, q in chunks(small, large)]
    if not found:
        return None
    small, digit, hulls = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(small):
        return None
    order = np.lexsort((-hulls.sum(1), small))  # of several ways to grow, the widest
    small, digit, hulls = small[order], digit[order], hulls[order]
    first = np.concatenate([[True], small[1:] != small[:-1]])
    result = caps.copy()
    result[small[first], digit[first]] = hulls[first]
    return result


def _growth(caps: Ints, small: Ints, large: Ints) -> tuple[Ints, Ints, Ints]:
    """Of pairs of boxes, the first of each that can grow over the second: box, digit, hull."""
    num_digits = caps.shape[1]
    if num_digits == 1:  # growing is mutual
        small, large = small[small < large], large[small < large]
        digit = np.zeros(len(small), dtype=np.int64)
    else:
        outside = any_along(caps[small] > caps[large], 2)
        one = outside.sum(1) == 1
        small, large, digit = small[one], large[one], outside[one].argmax(1)
    a, b = caps[small, digit], caps[large, digit]
    near = (a + b[:, [1, 0, 3, 2, 5, 4]] >= -1).all(1)
    small, digit, a, b = small[near], digit[near], a[near], b[near]
    gains = (b > a).any(1)
    small, digit, a, b = small[gains], digit[gains], a[gains], b[gains]
    exact = is_hull_exact(a, b)
    return small[exact], digit[exact], np.maximum(a[exact], b[exact])


def simplified(caps: Ints) -> Ints:
    """The same pairs in fewer, larger, possibly overlapping boxes."""
    caps = without_contained(caps)
    for _ in range(_MAX_ROUNDS):
        if len(caps) < 2:
            break
        wider = grown(caps)
        if wider is None:
            break
        caps = without_contained(wider)
    return caps
