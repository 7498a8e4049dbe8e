"""The primitives, pair by pair, from the table of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from oracle_draws import draw, rings
from oracle_values import Given, Meaningless, Named, Pairs, Scope, View, condition, number, tokens

from attnloom.grammar.syntax import (
    Argument,
    Expr,
    Interval,
    Listing,
    Name,
)


def everything(n: int) -> Pairs:
    return {(i, j) for i in range(n) for j in range(n)}


def such_that(n: int, test: Callable[[int, int], bool]) -> Pairs:
    return {(i, j) for i in range(n) for j in range(n) if test(i, j)}


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call by name, or the only one without a name."""

    given: Sequence[Argument]
    scope: Scope
    view: View
    meaning: Callable[[Expr, Scope, View], Pairs]
    """The pairs of a relation, for the primitives that take one."""

    def expr(self, name: str) -> Expr | None:
        named = {one.name: one.value for one in self.given}
        return named.get(name, named.get(None))

    def has(self, name: str) -> bool:
        return any(one.name == name for one in self.given)

    def number(self, name: str, default: int | None = None, least: int = 1) -> int:
        expr = self.expr(name) if default is None or self.has(name) else None
        if expr is None:
            assert default is not None, name
            return default
        value = number(expr, self.scope, self.view)
        if value < least:
            raise Meaningless(f"{name}={value}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        expr = self.expr(name) if self.has(name) else None
        return default if expr is None else condition(expr, self.scope, self.view)

    def tokens(self) -> set[int]:
        expr = self.expr("tokens")
        assert expr is not None
        return tokens(expr, self.scope, self.view)

    def input(self, kind: str) -> Any:
        name = self.given[0].value
        assert isinstance(name, Name)
        found = self.scope.find(name.name)
        assert isinstance(found, Given)
        assert found.kind == kind
        return found.value

    def shape(self) -> tuple[int, ...]:
        found = tuple(self.in_order())
        if min(found) < 1:
            raise Meaningless(f"a grid of {found}")
        return found

    def in_order(self) -> list[int]:
        """The arguments without a name, as numbers."""
        return [number(a.value, self.scope, self.view) for a in self.given if a.name is None]


def _window(given: Arguments) -> Pairs:
    n = given.view.n
    if given.has("each_side"):
        left = right = given.number("each_side", least=0)
    elif given.has("width"):
        width = given.number("width")
        if width % 2 == 0:
            raise Meaningless(f"width={width} has no middle")
        left = right = (width - 1) // 2
    elif given.has("last"):
        left, right = given.number("last", least=0) - 1, 0
        if left < 0:
            return set()
    else:
        left, right = given.number("left", least=0), given.number("right", least=0)
    dilation = given.number("dilation", 1)
    if given.flag("wrap", False):
        # Steps beyond n lead to tokens that were passed before.
        steps = range(-min(left, n), min(right, n) + 1)
        return {(i, (i + step * dilation) % n) for i in range(n) for step in steps}
    return such_that(
        n, lambda i, j: (i - j) % dilation == 0 and -right <= (i - j) // dilation <= left
    )


@dataclass(frozen=True)
class Neighbours:
    """NATTEN's window on one axis: `keys` of the residue class, shifted inwards at the ends."""

    dilation: int
    stride: int
    causal: bool

    @classmethod
    def of(cls, given: Arguments, *keys: int) -> Neighbours:
        found = cls(
            given.number("dilation", 1), given.number("stride", 1), given.flag("causal", False)
        )
        if found.stride > min(keys):
            raise Meaningless(f"strides of {found.stride}")
        return found

    def __call__(self, position: int, size: int, keys: int) -> set[int]:
        own = list(range(position % self.dilation, size, self.dilation))
        place = own.index(position)
        group = list(range(len(own)))[place // self.stride * self.stride :][: self.stride]
        if self.causal:
            start = group[0] + self.stride - keys
            start = max(0, min(start, len(own) - keys))
            return set(own[start : place + 1])
        leader = group[min(self.stride // 2, len(group) - 1)]
        start = max(0, min(leader - keys // 2, len(own) - keys))
        return set(own[start : start + keys])


def _neighborhood(given: Arguments) -> Pairs:
    n, keys = given.view.n, given.number("keys")
    neighbours = Neighbours.of(given, keys)
    return {(i, j) for i in range(n) for j in neighbours(i, n, keys)}


def _global(given: Arguments) -> Pairs:
    those = given.tokens()
    return such_that(given.view.n, lambda i, j: i in those or j in those)


def _broadcast(given: Arguments) -> Pairs:
    those = given.tokens()
    return such_that(given.view.n, lambda i, j: j in those)


def _collect(given: Arguments) -> Pairs:
    those = given.tokens()
    return such_that(given.view.n, lambda i, j: i in those)


def _shared(given: Arguments) -> tuple[int, int]:
    """Head and layer as they enter a draw."""
    head = given.view.head if given.flag("per_head", True) else 0
    layer = given.view.layer if given.flag("per_layer", False) else 0
    return head, layer


def _random(given: Arguments) -> Pairs:
    view, seed, (head, layer) = given.view, given.number("seed", 0, least=0), _shared(given)
    k = given.number("links", least=0)
    rest = given.expr("outside") if given.has("outside") else None
    outside = set() if rest is None else given.meaning(rest, given.scope, view)
    found: Pairs = set()
    for i in range(view.n):
        candidates = [j for j in range(view.drawable[i]) if (i, j) not in outside]
        found |= {(i, j) for j in draw(candidates, k, seed, i, head, layer)}
    return found


def _expander(given: Arguments) -> Pairs:
    degree, seed = given.number("degree", least=0), given.number("seed", 0, least=0)
    if degree % 2:
        raise Meaningless(f"degree={degree} is odd")
    head, layer = _shared(given)
    return rings(degree, given.view.n, seed, head, layer)


def _stride(given: Arguments) -> Pairs:
    step = given.number("step")
    return such_that(given.view.n, lambda i, j: (i - j) % step == 0)


def _chunks(given: Arguments) -> Pairs:
    size = given.number("size")
    return such_that(given.view.n, lambda i, j: i // size == j // size)


def _offsets(given: Arguments) -> Pairs:
    n = given.view.n
    if given.has("base"):
        base = given.number("base", least=2)
        distances = {0} | {base**power for power in range(n.bit_length() + 1)}
    else:
        (listing,) = given.given
        distances = _distances(listing.value, given.scope, given.view)
    return such_that(n, lambda i, j: abs(i - j) in distances)


def _distances(expr: Expr, scope: Scope, view: View) -> set[int]:
    """Distances are not positions: nothing counts from the end, and none is too far."""
    if isinstance(expr, Name):
        found = scope.find(expr.name)
        if isinstance(found, Named):
            return _distances(found.value, found.scope, view)
    if isinstance(expr, Listing):
        return set().union(*(_distances(one, scope, view) for one in expr.items))
    if isinstance(expr, Interval):
        start, stop = number(expr.start, scope, view), number(expr.stop, scope, view)
        if start < 0:
            raise Meaningless(f"distance {start}")
        return {distance for distance in range(view.n) if start <= distance < stop}
    distance = number(expr, scope, view)
    if distance < 0:
        raise Meaningless(f"distance {distance}")
    return {distance}


def _same(given: Arguments) -> Pairs:
    ids = given.input("segments")
    return such_that(given.view.n, lambda i, j: ids[i] == ids[j])


def _links(given: Arguments) -> Pairs:
    return set(given.input("links"))


def _where(given: Arguments) -> Pairs:
    (rule,) = given.given
    return such_that(
        given.view.n, lambda i, j: condition(rule.value, given.scope, given.view, (i, j))
    )


def _transpose(given: Arguments) -> Pairs:
    (one,) = given.given
    return {(j, i) for i, j in given.meaning(one.value, given.scope, given.view)}


PRIMITIVES: dict[str, Callable[[Arguments], Pairs]] = {
    "full": lambda given: everything(given.view.n),
    "none": lambda given: set(),
    "self": lambda given: such_that(given.view.n, lambda i, j: i == j),
    "causal": lambda given: such_that(given.view.n, lambda i, j: j <= i),
    "window": _window,
    "neighborhood": _neighborhood,
    "global": _global,
    "broadcast": _broadcast,
    "collect": _collect,
    "random": _random,
    "expander": _expander,
    "stride": _stride,
    "chunks": _chunks,
    "offsets": _offsets,
    "same": _same,
    "links": _links,
    "where": _where,
    "transpose": _transpose,
}


# --- grids ---------------------------------------------------------------------------------------

Cell = tuple[int, ...]


def cell_of(position: int, shape: Sequence[int]) -> Cell:
    """The coordinates of a position in row-major order: `(y, x)` or `(t, y, x)`."""
    found: list[int] = []
    for size in reversed(shape):
        found.insert(0, position % size)
        position //= size
    return tuple(found)


def of_cells(given: Arguments, test: Callable[[Cell, Cell], bool]) -> Pairs:
    """The pairs of positions that are cells and pass the test."""
    if not given.view.grid:
        raise Meaningless("cells in `blocks`")
    n, shape = given.view.n, given.view.grid
    cells = {p: cell_of(p, shape) for p in range(min(n, math.prod(shape)))}
    return {(i, j) for i in cells for j in cells if test(cells[i], cells[j])}


def _near(given: Arguments) -> Pairs:
    reach = given.in_order()
    if min(reach) < 0:
        raise Meaningless(f"near({reach})")
    if len(reach) == 1:
        reach = reach * len(given.view.grid)
    return of_cells(
        given,
        lambda a, b: all(abs(x - y) <= r for x, y, r in zip(a, b, reach, strict=True)),
    )


def _tile(given: Arguments) -> Pairs:
    sizes, shift = given.in_order(), given.number("shift", 0, least=-(2**63))
    if min(sizes) < 1:
        raise Meaningless(f"tile({sizes})")
    return of_cells(
        given,
        lambda a, b: all(
            (x - shift) // size == (y - shift) // size
            for x, y, size in zip(a, b, sizes, strict=True)
        ),
    )


def _cell_neighborhood(given: Arguments) -> Pairs:
    shape = given.view.grid
    keys = dict(enumerate(given.in_order()))
    for axis, name in zip(range(-1, -4, -1), ("columns", "rows", "frames"), strict=True):
        if given.has(name):
            keys = {axis: given.number(name)}
            if len(shape) + axis < 0:
                raise Meaningless(f"{name} in a grid of {shape}")
    if min(keys.values()) < 1:
        raise Meaningless(f"neighborhood({keys})")
    neighbours = Neighbours.of(given, *keys.values())
    return of_cells(
        given,
        lambda a, b: all(b[at] in neighbours(a[at], shape[at], k) for at, k in keys.items()),
    )


OF_CELLS: dict[str, Callable[[Arguments], Pairs]] = {
    "near": _near,
    "row": lambda given: of_cells(given, lambda a, b: a[:-1] == b[:-1]),
    "column": lambda given: of_cells(given, lambda a, b: (*a[:-2], a[-1]) == (*b[:-2], b[-1])),
    "tile": _tile,
    "neighborhood": _cell_neighborhood,
}
