"""Whether two patterns are the same set of pairs: proved for all lengths, or only tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnloom.compiler.bound import Bound
from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.compiler.horizon import Unbounded, horizon
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.logic import same_by_logic
from attnloom.compiler.zones import TooComplex
from attnloom.grammar import PatternError
from attnloom.pattern import Pattern

TESTED = (*range(1, 41), 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257, 400, 1000)
"""Lengths that are looked at before, and where nothing can be proved instead of, a proof."""

_ROWS_AT_ONCE = 1 << 12
_FEW = 2048
"""Positions up to which rows are compared one by one, which is then quicker than closed forms."""


@dataclass(frozen=True)
class Difference:
    """Where two patterns differ: a length, and a query that reads a key in one of them only.

    `pair` is `None` where they differ in the number of memory tokens. `in_first` says in which.
    """

    n: int
    head: int
    heads: int
    layer: int
    layers: int
    pair: tuple[int, int] | None
    in_first: bool
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> dict[str, Any]:
        """The arguments of `Pattern.bind`."""
        return {
            "head": self.head,
            "heads": self.heads,
            "layer": self.layer,
            "layers": self.layers,
            "inputs": self.inputs,
        }


@dataclass(frozen=True)
class Equivalence:
    """What is found about two patterns; true when no difference is.

    `is_proved` says that this is certain, for all lengths that were asked about; `how` says how it
    was found, or why it was only tested.
    """

    names: tuple[str, str]
    is_proved: bool
    how: str
    case: Difference | None = None

    def __bool__(self) -> bool:
        return self.case is None

    def __str__(self) -> str:
        p, q = self.names
        case = self.case
        if case is None:
            return (
                f"{p} and {q} are the same: {'proved' if self.is_proved else 'tested'}, {self.how}"
            )
        where = f"n = {case.n}"
        if case.heads > 1:
            where += f", head {case.head} of {case.heads}"
        if case.layers > 1:
            where += f", layer {case.layer} of {case.layers}"
        if case.pair is None:
            return f"{p} and {q} differ at {where}: they have different numbers of memory tokens"
        reads, does_not = (p, q) if case.in_first else (q, p)
        i, j = (str(one) if one >= 0 else f"memory {one}" for one in case.pair)
        return (
            f"{p} and {q} differ at {where}: query {i} reads key {j} in {reads} "
            f"and not in {does_not}"
        )


def equivalent(
    p: Pattern,
    q: Pattern,
    *,
    n: int | None = None,
    heads: int = 1,
    layers: int = 1,
    inputs: Mapping[str, Any] | None = None,
) -> Equivalence:
    """Whether two patterns are the same set of pairs, at every length or at one.

    Without a length, this is proved in one of two ways, if it can be: the patterns are the same
    combination of the same parts, or what they ask of positions is decided by finitely many
    lengths, all of which are looked at. Otherwise some lengths are tested, and the answer says so.

    Args:
        p: one pattern.
        q: the other one.
        n: the length; all lengths when not given.
        heads: how many heads; each of them is compared.
        layers: how many layers, likewise.
        inputs: run-time inputs, for one length; without a length, some are made up.

    >>> import attnloom
    >>> p, q = (attnloom.parse("pattern p { only causal; " + body + " }")
    ...         for body in ("window(each_side=3)", "window(last=4)"))
    >>> found = equivalent(p, q)
    >>> bool(found), found.is_proved
    (True, True)
    >>> print(equivalent(p, attnloom.parse("pattern q { window(last=3) }")))
    p and q differ at n = 4: query 3 reads key 0 in p and not in q
    """
    names = (p.name, q.name) if p.name != q.name else (p.name, f"the other {q.name}")
    if n is not None:
        case = _at(p, q, n, heads, layers, inputs or {})
        return Equivalence(names, True, f"at n = {n}", case)
    if inputs:
        raise TypeError("inputs are for one length: give n, too")
    if same_by_logic(p._typed, q._typed):
        return Equivalence(names, True, "for they are the same combination of the same parts")
    case, tried = _first_difference(p, q, TESTED, heads, layers)
    if case is not None:
        return Equivalence(names, True, "by a pair", case)
    lengths, why = _deciding(p, q, heads, layers)
    if lengths is None:
        return Equivalence(names, False, f"at {tried} lengths up to {TESTED[-1]:,}: {why}")
    rest = [length for length in lengths if length not in TESTED]
    case, _ = _first_difference(p, q, rest, heads, layers)
    how = f"for every length, by {len(lengths):,} that decide, up to {lengths[-1]:,}"
    return Equivalence(names, True, how if case is None else "by a pair", case)


def difference(a: Bound, b: Bound) -> tuple[int, int] | None:
    """A pair that one bound pattern has and another has not: query and key, memory negative.

    >>> import attnloom
    >>> far, near = (attnloom.load("local", reach=reach).bind(10**9) for reach in (9, 8))
    >>> difference(near, far), difference(far, near)
    (None, (0, 9))
    """
    start, stop = -a.memory, a.tokens
    if stop - start > _FEW:
        try:
            return (a.region.zones(start, stop) - b.region.zones(start, stop)).first_pair()
        except TooComplex:
            pass
    for first in range(start, stop, _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, stop), dtype=np.int64)
        kept = b.region.runs(rows).clipped(start, stop).complement(start, stop)
        ours = a.region.runs(rows).clipped(start, stop)
        for row in np.flatnonzero(ours.lengths() + kept.lengths() > 0).tolist():
            common = _common(ours.row(row), kept.row(row))
            if common is not None:
                return int(rows[row]), common
    return None


def _common(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> int | None:
    """The first number in both of two lists of ascending ranges."""
    x, y = 0, 0
    while x < len(a) and y < len(b):
        first = max(a[x][0], b[y][0])
        if first < min(a[x][1], b[y][1]):
            return first
        x, y = (x + 1, y) if a[x][1] <= b[y][1] else (x, y + 1)
    return None


def _places(p: Pattern, q: Pattern, heads: int, layers: int) -> Iterator[dict[str, Any]]:
    """The heads and layers that may differ from others."""
    by_head = depends_on_head(p._typed) or depends_on_head(q._typed)
    by_layer = depends_on_layer(p._typed) or depends_on_layer(q._typed)
    for layer in range(layers if by_layer else 1):
        for head in range(heads if by_head else 1):
            yield {"head": head, "heads": heads, "layer": layer, "layers": layers}


def _at(
    p: Pattern, q: Pattern, n: int, heads: int, layers: int, inputs: Mapping[str, Any]
) -> Difference | None:
    """Where two patterns differ at a length.

    Raises:
        PatternError: one of them has no meaning there.
    """
    ours, theirs = (
        {name: value for name, value in inputs.items() if name in one.inputs} for one in (p, q)
    )
    for place in _places(p, q, heads, layers):
        a, b = p.bind(n, inputs=ours, **place), q.bind(n, inputs=theirs, **place)
        if a.memory != b.memory:
            return Difference(n, **place, pair=None, in_first=a.memory > b.memory)
        for first, second, in_first in ((a, b, True), (b, a, False)):
            pair = difference(first, second)
            if pair is not None:
                return Difference(n, **place, pair=pair, in_first=in_first, inputs=inputs)
    return None


def _first_difference(
    p: Pattern, q: Pattern, lengths: Any, heads: int, layers: int
) -> tuple[Difference | None, int]:
    """The first length of some where two patterns differ; and at how many both have a meaning."""
    tried = 0
    for n in lengths:
        try:
            found = _at(p, q, n, heads, layers, _made_up(p, q, n))
        except (PatternError, TooLarge):
            continue
        tried += 1
        if found is not None:
            return _shortened(p, q, found), tried
    return None, tried


def _shortened(p: Pattern, q: Pattern, found: Difference) -> Difference:
    """The same difference among fewer tokens: often no more are needed than the pair has."""
    while found.pair is not None and max(found.pair) + 1 < found.n:
        n = max(found.pair) + 1
        try:
            shorter = _at(p, q, n, found.heads, found.layers, _made_up(p, q, n))
        except (PatternError, TooLarge):
            break
        if shorter is None:
            break
        found = shorter
    return found


def _made_up(p: Pattern, q: Pattern, n: int) -> dict[str, Any]:
    """Inputs for a length, always the same."""
    generator = np.random.default_rng(n)
    found: dict[str, Any] = {}
    for name, kind in {**p.inputs, **q.inputs}.items():
        if kind == "tokens":
            found[name] = np.flatnonzero(generator.random(n) < 0.2).tolist()
        elif kind == "segments":
            found[name] = np.cumsum(generator.random(n) < 0.2).tolist()
        else:
            keys = np.sort(generator.integers(0, n, (n, 2)), axis=1)
            found[name] = [sorted(set(row)) for row in keys.tolist()]
    return found


def _deciding(p: Pattern, q: Pattern, heads: int, layers: int) -> tuple[list[int] | None, str]:
    """The lengths that decide for all; or why there are none."""
    found: set[int] = set()
    for place in _places(p, q, heads, layers):
        try:
            whole = horizon(p._typed, **place) | horizon(q._typed, **place)
        except Unbounded as error:
            return None, f"{error} is beyond what can be proved"
        lengths = whole.lengths()
        if lengths is None:
            return None, "the lengths that would prove it are too many"
        found.update(lengths)
    return sorted(found), ""
