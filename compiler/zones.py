"""Zones: exact symbolic sets of pairs (i, j), query i reads key j, at any length.

A **zone** is the set of pairs with `i1 <= i <= i2`, `j1 <= j <= j2` and `d1 <= i - j <= d2`. With
four tokens, "the last two keys" is one zone, 0 <= i - j <= 1, and "token 0" is another, j = 0:

    >>> window, first = Zones.zone(0, 4, d=(0, 1)), Zones.zone(0, 4, j=(0, 0))
    >>> print(window | first)
    █···
    ██··
    ███·
    █·██

What two layers let through is a composition, "i reads k and k reads j for some k". Chaining
0 <= i - k <= 1 and 0 <= k - j <= 1 leaves 0 <= i - j <= 2: again a zone, found by adding bounds,
and the same work for four tokens as for a thousand million:

    >>> print(window @ window)
    █···
    ██··
    ███·
    ·███
    >>> long = Zones.zone(0, 10**9, d=(0, 1))
    >>> (long @ long).equals(Zones.zone(0, 10**9, d=(0, 2)))
    True

Why that is exact over the integers: all bounds are on single tokens or on differences of two. Such
difference constraints are totally unimodular: eliminating the middle token k asks only that each
lower bound of k be at most each upper bound, and between integer bounds there is an integer k.

A **box** writes positions as digits and has one zone per digit. With i = 3*q + r, reading every
third key back is "r equal, q not smaller", one box over the places (1, 3). Digits do not interact
within a box, so everything works digit by digit. A `Zones` is a union of boxes over one tuple
of places; operands with different places are first brought to common ones (see `places`).

    >>> Zones.band(0, 10**9, 0, None, step=1000).count()
    500000500000000

Bounds called `first, last` and the pairs `i=`, `j=`, `d=` are inclusive; `start, stop`, and runs of
tokens, are half-open. Every answer is exact; what would cost too much raises `TooComplex`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.places import (
    UNITS,
    Places,
    coarsened,
    common_places,
    converted,
    digits_of,
    is_chain,
    merged,
)
from attnloom.compiler.zone_arrays import (
    MAX_BOXES,
    SIGNS,
    Bools,
    Ints,
    TooComplex,
    all_along,
    any_along,
    bounds_of,
    chunks,
    composed,
    disjoint,
    met,
    middle_pairs,
    rough_sizes,
    subtracted,
    tightened,
    total_size,
    transposed,
)
from attnloom.compiler.zone_domain import (
    Bounds,
    Range,
    box_caps,
    check,
    check_domain,
    check_places,
    clipped,
    domain_caps,
    zone_caps,
)
from attnloom.compiler.zone_rows import (
    candidate_rows,
    key_ranges,
    lengths,
    merged_runs,
    runs,
    segments,
)
from attnloom.compiler.zone_simplify import simplified, without_contained, without_covered

__all__ = ["Bounds", "Range", "TooComplex", "Zones"]

Runs = Iterable[tuple[int, int]]

_MAX_DENSE = 2**26
_MAX_POINTS = 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Zones:
    """A set of pairs (i, j) of positions within start..stop, as a union of boxes.

    The boxes may overlap and are not canonical: `equals` compares the sets. No box is empty, all
    lie within the square of the domain, and every bound is attained by some pair.

    Shapes:
        boxes: `(num_boxes, num_digits, 6)`: lowest digit first, inclusive `i1, i2, j1, j2, d1, d2`
    """

    start: int
    stop: int
    places: Places
    boxes: Ints

    def __post_init__(self) -> None:
        self.boxes.flags.writeable = False

    @property
    def num_boxes(self) -> int:
        return len(self.boxes)

    # Constructors

    @classmethod
    def empty(cls, start: int, stop: int) -> Zones:
        """No pair."""
        return cls.union(start, stop, [])

    @classmethod
    def everything(cls, start: int, stop: int) -> Zones:
        """Every pair: full attention."""
        return cls.zone(start, stop)

    @classmethod
    def zone(
        cls, start: int, stop: int, *, i: Range = None, j: Range = None, d: Range = None
    ) -> Zones:
        """The pairs whose i, j and i - j lie in the given ranges, inclusive.

        >>> Zones.zone(0, 100, d=(0, 100)).count()  # causal: n(n + 1) / 2
        5050
        """
        return cls.union(start, stop, [Bounds(i, j, d)])

    @classmethod
    def union(cls, start: int, stop: int, zones: Iterable[Bounds]) -> Zones:
        """The pairs in any of many zones, all of one digit; for documents, say, a square each.

        >>> print(Zones.union(0, 5, [Bounds(i=run, j=run) for run in ((0, 2), (3, 4))]))
        ███··
        ███··
        ███··
        ···██
        ···██
        """
        return _built(start, stop, UNITS, [[zone] for zone in zones])

    @classmethod
    def band(
        cls, start: int, stop: int, first: int | None, last: int | None, *, step: int = 1
    ) -> Zones:
        """The pairs with i - j among first, first + step, ... up to last.

        Without `first` they go down from `last`; without both they are the multiples of step.

        >>> print(Zones.band(0, 5, -2, 2, step=2))
        █·█··
        ·█·█·
        █·█·█
        ·█·█·
        ··█·█
        """
        check(step >= 1, f"step must be at least 1, got {step}")
        residue = (first if first is not None else last or 0) % step
        span = max(stop - start - 1, 0)
        low = -((residue - max(-span, -span if first is None else first)) // step)
        high = (min(span, span if last is None else last) - residue) // step
        if step == 1 or low >= high:
            return cls.zone(start, stop, d=(low * step + residue, high * step + residue))
        boxes = [[Bounds(d=(residue, residue)), Bounds(d=(low, high))]]
        if residue:  # the low digit of j may be the larger one: then one block is borrowed
            borrowed = Bounds(d=(residue - step, residue - step))
            boxes.append([borrowed, Bounds(d=(low + 1, high + 1))])
        return _built(start, stop, (1, step), boxes)

    @classmethod
    def rows(cls, start: int, stop: int, tokens: Runs) -> Zones:
        """The queries in some runs (start, stop) read everything."""
        return cls.union(start, stop, [Bounds(i=(a, b - 1)) for a, b in _tidy(tokens, start, stop)])

    @classmethod
    def columns(cls, start: int, stop: int, tokens: Runs) -> Zones:
        """The keys in some runs (start, stop) are read by all."""
        return cls.rows(start, stop, tokens).transpose()

    @classmethod
    def periodic_rows(cls, start: int, stop: int, period: int, first: int, last: int) -> Zones:
        """The queries i with first <= i % period <= last read everything."""
        if period == 1:
            return cls.everything(start, stop) if first <= 0 <= last else cls.empty(start, stop)
        return cls.digits(start, stop, (1, period), [Bounds(i=(first, last)), Bounds()])

    @classmethod
    def periodic_columns(cls, start: int, stop: int, period: int, first: int, last: int) -> Zones:
        """The keys j with first <= j % period <= last are read by all."""
        return cls.periodic_rows(start, stop, period, first, last).transpose()

    @classmethod
    def chunks(cls, start: int, stop: int, size: int, *, d: Range = (0, 0)) -> Zones:
        """The pairs with i // size - j // size in the given range; by default the same chunk.

        >>> print(Zones.chunks(0, 5, 2))
        ██···
        ██···
        ··██·
        ··██·
        ····█
        """
        if size == 1:
            return cls.zone(start, stop, d=d)
        return cls.digits(start, stop, (1, size), [Bounds(), Bounds(d=d)])

    @classmethod
    def digits(cls, start: int, stop: int, places: Sequence[int], zones: Sequence[Bounds]) -> Zones:
        """One box: a zone for each digit over the given places, lowest first.

        The cells of a grid that is 3 wide touch when they touch in both digits:

        >>> near = Bounds(d=(-1, 1))
        >>> Zones.digits(0, 9, (1, 3), [near, near]).row(0)
        [(0, 2), (3, 5)]
        """
        check(
            len(places) == len(zones), f"{len(places)} places need as many zones, not {len(zones)}"
        )
        return _built(start, stop, tuple(places), [list(zones)])

    # Algebra

    def __or__(self, other: Zones) -> Zones:
        a, b, places = self._aligned(other)
        return self._with(places, np.concatenate([a, b]))

    def __and__(self, other: Zones) -> Zones:
        a, b, places = self._aligned(other)
        return self._with(places, met(a, b))

    def __sub__(self, other: Zones) -> Zones:
        a, b, places = self._aligned(other)
        return self._with(places, subtracted(a, b))

    def __invert__(self) -> Zones:
        return Zones.everything(self.start, self.stop) - self

    def __matmul__(self, other: Zones) -> Zones:
        """Composition, `a.compose(b)`: the product of the boolean matrices."""
        a, b, places = self._aligned(other)
        result = np.empty((0, len(places), 6), dtype=np.int64)
        for x, y in chunks(*middle_pairs(a, b)):
            result = without_contained(np.concatenate([result, composed(a[x], b[y])]))
        return self._with(places, result)

    def compose(self, other: Zones) -> Zones:
        """The pairs (i, j) where i reads some k in this relation, and k reads j in the other.

        For layers, the upper one comes first: `upper.compose(lower)` holds what the queries of
        the upper layer learn about the keys of the lower one.
        """
        return self @ other

    def transpose(self) -> Zones:
        """The pairs (j, i) for all (i, j)."""
        return Zones(self.start, self.stop, self.places, transposed(self._caps) * SIGNS)

    def restricted(self, start: int, stop: int) -> Zones:
        """The same pairs in another domain, less those that lie outside it."""
        check_domain(start, stop)
        caps = self._caps
        inside = clipped(caps, self.places, start, stop)
        return _wrapped(start, stop, self.places, inside if inside is caps else simplified(inside))

    def shifted(self, offset: int) -> Zones:
        """The pairs (i + offset, j + offset), over the domain moved likewise."""
        start, stop = self.start + offset, self.stop + offset
        wide = self.restricted(min(self.start, start), max(self.stop, stop))
        move = Zones.zone(wide.start, wide.stop, d=(offset, offset))
        return (move @ wide @ move.transpose()).restricted(start, stop)

    def blocks(self, size: int, start: int, stop: int) -> Zones:
        """The token pairs (i, j) with (i // size, j // size) in this relation of block numbers.

        >>> print(Zones.zone(0, 3, d=(0, 0)).blocks(2, 0, 5))
        ██···
        ██···
        ··██·
        ··██·
        ····█
        """
        check(size >= 1, f"size must be at least 1, got {size}")
        if size == 1:
            return self.restricted(start, stop)
        check_domain(start, stop)
        places = (1, *(place * size for place in self.places))
        check_places(places)
        within = np.tile(np.array(zone_caps(Bounds(), 0, size - 1)), (self.num_boxes, 1, 1))
        caps = np.concatenate([within, self._caps], axis=1)
        return _wrapped(start, stop, places, simplified(clipped(caps, places, start, stop)))

    def over(self, places: Sequence[int]) -> Zones:
        """The same pairs in boxes over other places, which must be a chain.

        >>> Zones.zone(0, 8, d=(0, 0)).over((1, 4)).boxes.tolist()
        [[[0, 3, 0, 3, 0, 0], [0, 1, 0, 1, 0, 0]]]
        """
        target = tuple(places)
        check(is_chain(target), f"places must ascend from 1, each dividing the next, got {target}")
        if not len(self.boxes):
            return self
        caps = converted(self._caps, self.places, target)
        return _wrapped(self.start, self.stop, target, caps)

    def simplify(self) -> Zones:
        """The same pairs in fewer boxes, over one digit where that takes no more of them.

        Worth its time for a relation that is used often, as a layer is in a deep stack.

        >>> stride = Zones.band(0, 10**6, 0, 999) | Zones.band(0, 10**6, 0, None, step=1000)
        >>> (stride @ stride).simplify().boxes.tolist()
        [[[0, 999999, 0, 999999, 0, 999999]]]
        """
        caps = simplified(without_covered(self._caps))
        single = coarsened(caps, self.places)
        if single is not None and len(single) <= len(caps):
            return _wrapped(self.start, self.stop, UNITS, single)
        return _wrapped(self.start, self.stop, self.places, caps)

    def disjoint(self) -> Zones:
        """The same pairs in boxes that do not overlap."""
        return _wrapped(self.start, self.stop, self.places, disjoint(self._caps))

    # Questions

    def is_empty(self) -> bool:
        return not len(self.boxes)

    def __bool__(self) -> bool:
        return not self.is_empty()

    def count(self) -> int:
        """The number of pairs, exactly.

        >>> Zones.zone(0, 10**12, d=(-1, 1)).count()
        2999999999998
        """
        return total_size(disjoint(self._caps))

    def issubset(self, other: Zones) -> bool:
        """Whether every pair is in the other relation."""
        return not self or (self - other).is_empty()

    def equals(self, other: Zones) -> bool:
        """Whether both hold the same pairs, whatever their boxes."""
        return self.issubset(other) and other.issubset(self)

    def contains(self, i: Ints | int, j: Ints | int) -> Bools:
        """Whether each pair is in the relation; i and j are broadcast against each other."""
        rows, columns = np.broadcast_arrays(np.asarray(i, np.int64), np.asarray(j, np.int64))
        found = np.zeros(rows.shape, dtype=np.bool_)
        queries = digits_of(rows, self.places)  # [..., num_digits]
        keys = digits_of(columns, self.places)
        step = max(1, _MAX_POINTS // max(1, queries.size))
        values = np.stack([queries, keys, queries - keys], axis=-1)[..., None, :, :]
        shape = (self.num_boxes, len(self.places), 3)
        low, high = (bounds.reshape(shape) for bounds in bounds_of(self._caps))
        for at in range(0, self.num_boxes, step):
            inside = (values >= low[at : at + step]) & (values <= high[at : at + step])
            found |= any_along(all_along(inside, (-1, -2)), -1)
        return found

    def row(self, i: int) -> list[tuple[int, int]]:
        """The keys that query i reads, as maximal runs (start, stop), ascending.

        >>> Zones.band(0, 10, None, None, step=4).row(5)
        [(1, 2), (5, 6), (9, 10)]
        """
        digits = digits_of(np.array(self._position(i)), self.places)
        return runs(key_ranges(self._caps, digits), self.places)

    def column(self, j: int) -> list[tuple[int, int]]:
        """The queries that read key j, as maximal runs (start, stop), ascending."""
        return self.transpose().row(j)

    def row_count(self, i: int) -> int:
        """The number of keys that query i reads."""
        digits, caps = digits_of(np.array(self._position(i)), self.places), self._caps
        caps[..., 0:2] = np.minimum(caps[..., 0:2], np.stack([-digits, digits], axis=-1))
        return total_size(disjoint(tightened(caps)))

    def column_count(self, j: int) -> int:
        """The number of queries that read key j."""
        return self.transpose().row_count(j)

    def row_counts(self, rows: Ints) -> Ints:
        """The number of keys that each of the given queries reads."""
        rows = np.asarray(rows, dtype=np.int64)
        if not rows.size:
            return rows
        self._position(int(rows.min()))
        self._position(int(rows.max()))
        flat = lengths(disjoint(self._caps), self.places, rows.ravel(), self.start, self.stop)
        return flat.reshape(rows.shape)

    def column_counts(self, columns: Ints) -> Ints:
        """The number of queries that read each of the given keys."""
        return self.transpose().row_counts(columns)

    def row_segments(self) -> list[tuple[int, int, int, int]]:
        """Row lengths as (start, stop, length, slope): row i reads length + slope*(i - start) keys.

        Only over one digit; with more, lengths repeat too often for a list.

        >>> Zones.zone(0, 10, d=(0, 2)).row_segments()
        [(0, 2, 1, 1), (2, 9, 3, 0), (9, 10, 3, -1)]
        """
        if len(self.places) > 1:
            raise TooComplex("row lengths over several digits")
        if self.start == self.stop:
            return []
        first, length, slope = segments(disjoint(self._caps)[:, 0], self.start, self.stop)
        bent = np.ones(len(first), dtype=np.bool_)
        bent[1:] = (slope[1:] != slope[:-1]) | (np.diff(length) != slope[:-1] * np.diff(first))
        first, length, slope = first[bent], length[bent], slope[bent]
        stops = [*first[1:].tolist(), self.stop]
        return list(zip(first.tolist(), stops, length.tolist(), slope.tolist(), strict=True))

    def max_row_count(self) -> tuple[int, int]:
        """The most keys that a query reads, and such a query.

        >>> Zones.zone(0, 10**9, d=(-5, 5)).max_row_count()
        (11, 5)
        """
        counts, rows = self._candidates()
        best = int(counts.argmax())
        return int(counts[best]), int(rows[best])

    def min_row_count(self) -> tuple[int, int]:
        """The fewest keys that a query reads, and such a query."""
        counts, rows = self._candidates()
        best = int(counts.argmin())
        return int(counts[best]), int(rows[best])

    def max_column_count(self) -> tuple[int, int]:
        """The most queries that read a key, and such a key."""
        return self.transpose().max_row_count()

    def min_column_count(self) -> tuple[int, int]:
        """The fewest queries that read a key, and such a key."""
        return self.transpose().min_row_count()

    def first_pair(self) -> tuple[int, int] | None:
        """The pair with the smallest i and, of those, the smallest j; `None` when there is none."""
        if not self:
            return None
        caps, weights = self._caps, np.array(self.places)
        i = -caps[..., 0]
        j = np.maximum(-caps[..., 2], i - caps[..., 5])
        return min(zip((i @ weights).tolist(), (j @ weights).tolist(), strict=True))

    def sample_pair(self) -> tuple[int, int] | None:
        """A pair from the midst of the largest box; `None` when there is none."""
        if not self:
            return None
        caps, weights = self._caps, np.array(self.places)
        box = caps[rough_sizes(caps).argmax()]
        i = (box[:, 1] - box[:, 0]) // 2
        first, last = np.maximum(-box[:, 2], i - box[:, 5]), np.minimum(box[:, 3], i + box[:, 4])
        return int(i @ weights), int((first + last) // 2 @ weights)

    def to_dense(self) -> Bools:
        """The boolean matrix; row and column 0 stand for position `start`. For small domains."""
        size = self.stop - self.start
        if size * size > _MAX_DENSE:
            raise TooComplex(f"a dense matrix of {size} x {size}")
        positions = np.arange(self.start, self.stop)
        step = max(1, _MAX_POINTS // max(1, size))
        parts = [
            self.contains(positions[at : at + step, None], positions) for at in range(0, size, step)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.bool_)

    def __str__(self) -> str:
        """A picture, queries down, keys across; of more than a screen, the name alone."""
        if self.stop - self.start > 100:
            return repr(self)
        return "\n".join("".join("·█"[int(bit)] for bit in row) for row in self.to_dense())

    def __repr__(self) -> str:
        name = f"Zones({self.start}, {self.stop}, places={self.places}"
        return f"{name}, {self.num_boxes} boxes)"

    # Helpers

    @property
    def _caps(self) -> Ints:
        return self.boxes * SIGNS

    def _aligned(self, other: Zones) -> tuple[Ints, Ints, Places]:
        """The caps of both over common places."""
        if (self.start, self.stop) != (other.start, other.stop):
            raise ValueError(
                f"domains differ: {self.start}..{self.stop} and {other.start}..{other.stop}"
            )
        if self.places == other.places:
            return self._caps, other._caps, self.places
        caps, chains = [self._caps, other._caps], [self.places, other.places]
        if not is_chain(tuple(sorted({*self.places, *other.places}))):
            for t in range(2):
                single = coarsened(caps[t], chains[t])
                if single is not None:
                    caps[t], chains[t] = single, UNITS
        places = common_places(*chains)
        a, b = (converted(each, chain, places) for each, chain in zip(caps, chains, strict=True))
        return a, b, places

    def _with(self, places: Places, caps: Ints) -> Zones:
        return _wrapped(self.start, self.stop, places, simplified(caps))

    def _position(self, position: int) -> int:
        if not self.start <= position < self.stop:
            raise ValueError(f"position {position} is outside {self.start}..{self.stop}")
        return position

    def _candidates(self) -> tuple[Ints, Ints]:
        """Lengths of rows among which are a longest and a shortest one, and the rows."""
        check(self.start < self.stop, "an empty domain has no rows")
        caps = disjoint(self._caps)
        if len(self.places) == 1:
            first, length, slope = segments(caps[:, 0], self.start, self.stop)
            last = np.append(first[1:], self.stop) - 1
            counts = np.concatenate([length, length + slope * (last - first)])
            return counts, np.concatenate([first, last])
        domain = domain_caps(self.start, self.stop, self.places) * SIGNS
        rows = candidate_rows(caps, self.places, np.unique(domain[..., :2], axis=0))
        return lengths(caps, self.places, rows, self.start, self.stop), rows


def _built(start: int, stop: int, places: Places, boxes: Sequence[Sequence[Bounds]]) -> Zones:
    """A relation of boxes given by hand."""
    return _wrapped(start, stop, places, simplified(box_caps(start, stop, places, boxes)))


def _wrapped(start: int, stop: int, places: Places, caps: Ints) -> Zones:
    """A relation of tight caps within the domain, over no more places than make a difference."""
    if len(caps) > MAX_BOXES:
        raise TooComplex(f"a union of {len(caps):,} boxes, over the limit of {MAX_BOXES:,}")
    if not len(caps):
        places, caps = UNITS, np.empty((0, 1, 6), dtype=np.int64)
    while start // places[-1] == (stop - 1) // places[-1] and len(places) > 1:
        caps = merged(caps, len(places) - 2, places[-1] // places[-2])
        places = places[:-1]
    return Zones(start, stop, places, caps * SIGNS)


def _tidy(tokens: Runs, start: int, stop: int) -> list[tuple[int, int]]:
    """Runs clipped to the domain, sorted and joined."""
    clipped_runs = ((max(a, start), min(b, stop)) for a, b in tokens)
    array = np.array([run for run in clipped_runs if run[0] < run[1]], dtype=np.int64)
    return merged_runs(*array.reshape(-1, 2).T)
