"""Zones as arrays: tightening, meeting, composing, subtracting and measuring many boxes at once.

A zone is six upper bounds, its *caps*, so that meeting two zones is one elementwise minimum:

    -i <= c0    i <= c1    -j <= c2    j <= c3    j - i <= c4    i - j <= c5

`boxes * SIGNS` turns the readable form `[i1, i2, j1, j2, d1, d2]` into caps, and caps back into it.
A *box* is one zone for each digit of a position; here a set of boxes is an array of caps
`(num_boxes, num_digits, 6)`, lowest digit first. Caps are *tight* when no bound follows more
strongly from two others: then every bound is attained by some pair, two equal zones have equal
caps, and a zone lies inside another when none of its caps is larger.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

MAX_BOXES = 200_000
"""Boxes in one union."""

MAX_PIECES = 1_000_000
"""Pieces that a union or a difference is cut into on the way to an answer."""

MAX_PAIRS = 4_000_000
"""Pairs of boxes looked at in one operation."""

MAX_POSITION = 2**52
"""Positions stay this small in absolute value, so that sums of caps fit in 64 bits."""

FREE = 2**61
"""A cap that binds nothing; two of them can still be added."""

SIGNS: Ints = np.array([-1, 1, -1, 1, -1, 1])

# Each cap follows from two others, e.g. i = j + (i - j), hence c1 <= c3 + c5.
_VIA = np.array([2, 3, 0, 1, 0, 1])
_PLUS = np.array([4, 5, 5, 4, 3, 2])
_OPPOSITE = np.array([1, 0, 3, 2, 5, 4])

_ALL_PAIRS = 4096
"""Up to this many pairs, listing them all costs less than sorting."""

_CHUNK = 65_536
"""Pairs worked on at a time: bounds the memory of large operations."""


class TooComplex(Exception):
    """The exact answer needs more boxes, or more work, than the limits allow: take another way."""


def tighten(caps: Ints) -> Ints:
    """Lower every cap to what two others imply; with three quantities one step is enough."""
    tight: Ints = np.minimum(caps, caps.take(_VIA, -1) + caps.take(_PLUS, -1))
    return tight


def nonempty(tight: Ints) -> Bools:
    """Which zones hold a pair: `(..., 6)` in, `(...)` out."""
    return all_along((tight[..., 0::2] + tight[..., 1::2]) >= 0, -1)


def all_along(holds: Bools, axes: int | tuple[int, ...]) -> Bools:
    return np.asarray(holds.all(axes))


def any_along(holds: Bools, axes: int | tuple[int, ...]) -> Bools:
    return np.asarray(holds.any(axes))


def tightened(caps: Ints) -> Ints:
    """Tight caps of the boxes that are not empty."""
    tight = tighten(caps)
    return tight[all_along(nonempty(tight), -1)]


def transposed(caps: Ints) -> Ints:
    """Swap i and j, which turns i - j around."""
    return caps[..., [2, 3, 0, 1, 5, 4]]


def composed(a: Ints, b: Ints) -> Ints:
    """Boxes of the pairs (i, j) with (i, k) in `a` and (k, j) in `b` for some k, elementwise.

    All that the six constraints on k say without naming k is that every lower bound of k is at
    most every upper bound. An integer k fits between integer bounds, so nothing is lost.
    """
    middle = np.minimum(a[..., 2:4], b[..., 0:2])
    caps = np.empty_like(a)
    np.minimum(a[..., 0:2], middle + a[..., 4:6], out=caps[..., 0:2])
    np.minimum(b[..., 2:4], middle + b[..., 5:3:-1], out=caps[..., 2:4])
    np.add(a[..., 4:6], b[..., 4:6], out=caps[..., 4:6])
    return tightened(caps[all_along(middle.sum(-1) >= 0, -1)])


def essential(caps: Ints) -> Ints:
    """The same zones with every cap that the others imply set to `FREE`."""
    kept = caps.copy()
    for group in ([4, 5], [0, 1], [2, 3]):  # one group after the other: no two excuse each other
        implied = kept.take(_VIA[group], -1) + kept.take(_PLUS[group], -1)
        kept[..., group] = np.where(kept[..., group] >= implied, FREE, kept[..., group])
    return kept


def zone_areas(caps: Ints | NDArray[np.object_] | Floats) -> NDArray[np.generic]:
    """The number of pairs of each tight zone: a rectangle less two triangular corners."""
    low = caps[..., 0] + caps[..., 3] - caps[..., 4]
    high = caps[..., 1] + caps[..., 2] - caps[..., 5]
    rectangle = (caps[..., 0] + caps[..., 1] + 1) * (caps[..., 2] + caps[..., 3] + 1)
    area: NDArray[np.generic] = rectangle - (low * (low + 1) + high * (high + 1)) // 2
    return area


def rough_sizes(caps: Ints) -> Floats:
    """The number of pairs of each box, rounded: good for ordering, never for counting."""
    sizes: Floats = zone_areas(caps.astype(np.float64)).prod(-1)
    return sizes


def total_size(caps: Ints) -> int:
    """The exact number of pairs, boxes counted one by one."""
    if not len(caps):
        return 0
    wide = caps.astype(np.float64)
    sides = (wide[..., 0] + wide[..., 1] + 1) * (wide[..., 2] + wide[..., 3] + 1)
    if float(sides.prod(-1).sum()) < 2.0**61:
        return int(zone_areas(caps).prod(-1).sum())
    exact = caps.astype(object)
    return int(zone_areas(exact).prod(-1).sum())


def expand_ranges(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """For each range its numbers, one after the other, and beside each the range it comes from."""
    owners = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return owners, np.arange(len(owners)) + (starts - first)[owners]


def neighbours(
    a_low: Ints, a_high: Ints, b_low: Ints, b_high: Ints, limit: int = MAX_PAIRS
) -> tuple[Ints, Ints]:
    """Pairs (x, y) in which `a[x]` may meet `b[y]`: all that meet on every axis, perhaps more.

    Shapes:
        a_low, a_high: `(num_a, num_axes)`, inclusive bounds; b_low, b_high: `(num_b, num_axes)`
    """
    if len(a_low) * len(b_low) <= _ALL_PAIRS:
        grid = np.indices((len(a_low), len(b_low))).reshape(2, -1)
        return grid[0], grid[1]
    hits = [_num_hits(a_low[:, t], a_high[:, t], b_low[:, t], b_high[:, t]) for t in _axes(a_low)]
    if min(hits) > MAX_PAIRS:
        raise TooComplex(
            f"{min(hits):,} pairs of boxes to combine, over the limit of {MAX_PAIRS:,}"
        )
    best = int(np.argmin(hits))
    x, y = _join(a_low[:, best], a_high[:, best], b_low[:, best], b_high[:, best])
    for axis in _axes(a_low):
        if axis != best:
            meet = (a_low[x, axis] <= b_high[y, axis]) & (b_low[y, axis] <= a_high[x, axis])
            x, y = x[meet], y[meet]
    return x, y


def _axes(bounds: Ints) -> range:
    return range(bounds.shape[1])


def _num_hits(a_low: Ints, a_high: Ints, b_low: Ints, b_high: Ints) -> int:
    """How many pairs of intervals overlap."""
    begun = np.searchsorted(np.sort(b_low), a_high, side="right")
    ended = np.searchsorted(np.sort(b_high), a_low, side="left")
    return int((begun - ended).sum())


def _join(a_low: Ints, a_high: Ints, b_low: Ints, b_high: Ints) -> tuple[Ints, Ints]:
    """The pairs of intervals that overlap: one of the two begins within the other."""
    b_order, a_order = np.argsort(b_low, kind="stable"), np.argsort(a_low, kind="stable")
    first = np.searchsorted(b_low[b_order], a_low, side="left")
    last = np.searchsorted(b_low[b_order], a_high, side="right")
    x, within = expand_ranges(first, last - first)
    first = np.searchsorted(a_low[a_order], b_low, side="right")
    last = np.searchsorted(a_low[a_order], b_high, side="right")
    y, inside = expand_ranges(first, last - first)
    return np.concatenate([x, a_order[inside]]), np.concatenate([b_order[within], y])


def bounds_of(caps: Ints) -> tuple[Ints, Ints]:
    """Lowest and highest value of i, j and i - j in every digit, `(num_boxes, 3 * num_digits)`."""
    shape = (len(caps), 3 * caps.shape[1])
    return -caps[..., 0::2].reshape(shape), caps[..., 1::2].reshape(shape)


def meeting_pairs(a: Ints, b: Ints, *, gap: int = 0, limit: int = MAX_PAIRS) -> tuple[Ints, Ints]:
    """Pairs (x, y) in which box `a[x]` may meet box `b[y]`, or come within `gap` of it."""
    a_low, a_high = bounds_of(a)
    b_low, b_high = bounds_of(b)
    return neighbours(a_low - gap, a_high + gap, b_low, b_high, limit)


def middle_pairs(a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """Pairs (x, y) in which a key of box `a[x]` may be a query of box `b[y]`."""
    return neighbours(-a[..., 2], a[..., 3], -b[..., 0], b[..., 1])


def chunks(x: Ints, y: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Long lists of pairs, some at a time."""
    for start in range(0, len(x), _CHUNK):
        yield x[start : start + _CHUNK], y[start : start + _CHUNK]


def overlaps(a: Ints, x: Ints, b: Ints, y: Ints) -> Bools:
    """For each pair of indices, whether the two boxes share a pair."""
    parts = [all_along(nonempty(tighten(np.minimum(a[p], b[q]))), -1) for p, q in chunks(x, y)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def met(a: Ints, b: Ints) -> Ints:
    """Boxes of the pairs in some box of `a` and in some box of `b`."""
    parts = [tightened(np.minimum(a[x], b[y])) for x, y in chunks(*meeting_pairs(a, b))]
    return np.concatenate([a[:0], *parts])


def subtracted(a: Ints, b: Ints) -> Ints:
    """Boxes of the pairs in some box of `a` and in no box of `b`."""
    x, y = meeting_pairs(a, b)
    return _carved(a, b, x, y, MAX_BOXES)[0]


def disjoint(caps: Ints) -> Ints:
    """The same pairs in boxes that do not overlap: the largest stay whole, the rest is carved."""
    return carved_by_larger(caps)[0]


def carved_by_larger(caps: Ints) -> tuple[Ints, Ints]:
    """Every box without the larger ones, as disjoint pieces; and the box each comes from."""
    if len(caps) < 2:
        return caps, np.arange(len(caps))
    order = np.argsort(-rough_sizes(caps), kind="stable")
    caps = caps[order]
    x, y = meeting_pairs(caps, caps)
    pieces, owners = _carved(caps, caps, x[y < x], y[y < x], MAX_PIECES)
    return pieces, order[owners]


def _carved(caps: Ints, cutters: Ints, x: Ints, y: Ints, limit: int) -> tuple[Ints, Ints]:
    """Take from each box `caps[x]` the box `cutters[y]`, for all pairs.

    Returns the pieces, those of a box disjoint, and the box that each comes from.

    Every round cuts each unfinished piece by the middle one of its cutters, and hands each of the
    pieces that come of it only the cutters that it meets: n columns cut a row in log n rounds.
    """
    hit = overlaps(caps, x, cutters, y)
    x, y = x[hit], y[hit]
    order = np.lexsort((y, x))
    y = y[order]
    counts = np.bincount(x, minlength=len(caps))
    whole, cut = np.flatnonzero(counts == 0), np.flatnonzero(counts > 0)
    done, owners = [caps[whole]], [whole]
    pieces, sources, counts = caps[cut], cut, counts[cut]
    num_done = len(whole)
    while len(pieces):
        starts = np.cumsum(counts) - counts
        pivots = starts + counts // 2
        children, parents = _split(pieces, cutters[y[pivots]])
        starts, counts = starts - np.arange(len(starts)), counts - 1
        y = np.delete(y, pivots)
        num_tests = int(counts[parents].sum())
        if num_tests > MAX_PAIRS or num_done + len(children) > limit:
            raise TooComplex(f"over {max(num_tests, num_done + len(children)):,} pieces to cut")
        child, at = expand_ranges(starts[parents], counts[parents])
        y = y[at]
        hit = overlaps(children, child, cutters, y)
        child, y = child[hit], y[hit]
        counts, sources = np.bincount(child, minlength=len(children)), sources[parents]
        whole, cut = np.flatnonzero(counts == 0), np.flatnonzero(counts > 0)
        done.append(children[whole])
        owners.append(sources[whole])
        num_done += len(done[-1])
        pieces, sources, counts = children[cut], sources[cut], counts[cut]
    return np.concatenate(done), np.concatenate(owners)


_ORDER = np.arange(6)
_EARLIER: Bools = _ORDER[None, :] < _ORDER[:, None]


def _split(pieces: Ints, cutters: Ints) -> tuple[Ints, Ints]:
    """Each piece without its cutter, which it meets: disjoint boxes, and the piece each came from.

    In one digit, part m obeys the cutter's caps before m and violates cap m. Over the digits, what
    leaves the cutter in one digit lies inside it in all higher ones.
    """
    num_digits = pieces.shape[1]
    cut = essential(cutters)
    inside = tighten(np.minimum(pieces, cutters))
    obeyed = np.minimum(pieces, cut)
    parts = np.where(_EARLIER, obeyed[:, :, None, :], pieces[:, :, None, :])
    violated = parts[:, :, _ORDER, _OPPOSITE]  # x > c says -x <= -c - 1
    parts[:, :, _ORDER, _OPPOSITE] = np.minimum(violated, -cut - 1)
    parts = tighten(parts)
    owner, digit, part = np.nonzero(nonempty(parts))
    if num_digits == 1:
        return parts[owner, digit, part][:, None, :], owner
    higher = np.arange(num_digits) > digit[:, None]
    children = np.where(higher[:, :, None], inside[owner], pieces[owner])
    children[np.arange(len(owner)), digit] = parts[owner, digit, part]
    return children, owner
