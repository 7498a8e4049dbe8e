"""A second meaning of the language, from its reference alone: pair by pair, in plain Python.

It walks the syntax tree and knows nothing of the compiler. A relation is a set of pairs `(i, j)`
over the positions `0 .. n`; memory comes into play at the very end.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

from attnloom.grammar import parse, parse_expression
from attnloom.grammar.syntax import (
    Add,
    Argument,
    Binary,
    Boolean,
    Call,
    Compare,
    Ends,
    Every,
    Expr,
    Input,
    Interval,
    Let,
    Listing,
    Memory,
    Name,
    Never,
    Node,
    Number,
    Only,
    Pattern,
    Statement,
    Unary,
    When,
    children,
)

Pairs = set[tuple[int, int]]
At = tuple[int, int] | None
"""The query and the key inside of `where`, None elsewhere."""


class Meaningless(Exception):
    """The pattern has no meaning at this length; the message says why."""


class Unsettled(Exception):
    """The reference leaves open what this means; the message says what."""


# --- Philox4x32-10 (Salmon et al. 2011), one counter at a time -----------------------------------

WORD = 2**32


@lru_cache(maxsize=20_000)
def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> list[int]:
    """The four words that Philox4x32-10 makes of four words of counter and two of key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (p1 // WORD) ^ c1 ^ k0,
            p1 % WORD,
            (p0 // WORD) ^ c3 ^ k1,
            p0 % WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return [c0, c1, c2, c3]


def numbers_of(seed: int, block: int, query: int, head: int, layer: int) -> list[int]:
    """The two 64-bit numbers of one counter."""
    words = philox((block, query, head, layer), (seed % WORD, seed // WORD))
    return [words[0] * WORD + words[1], words[2] * WORD + words[3]]


def draw(
    candidates: Sequence[int], k: int, seed: int, query: int, head: int, layer: int
) -> set[int]:
    """The first `k` of a random permutation of the candidates of one query."""
    if len(candidates) <= k:
        return set(candidates)
    found: set[int] = set()
    block = 0
    while True:
        for number in numbers_of(seed, block, query, head, layer):
            if len(found) == k:
                return found
            found.add(candidates[number * len(candidates) // 2**64])
        block += 1


def rings(degree: int, n: int, seed: int, head: int, layer: int) -> Pairs:
    """Both neighbours of every token on each of `degree / 2` rings."""
    found: Pairs = set()
    for ring in range(degree // 2):
        order = sorted(range(n), key=lambda i: numbers_of(seed, 2**31 + ring, i, head, layer)[0])
        for place, token in enumerate(order):
            found.add((token, order[place - 1]))
            found.add((token, order[(place + 1) % n]))
    return found


# --- where an expression is read -----------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """Where an expression is read: the length, the head and layer, the prefixes, the grid.

    `drawable[i]` is how many keys, from 0 on, the bodies around leave for query `i` to draw.
    """

    n: int
    head: int
    heads: int
    layer: int
    layers: int
    drawable: tuple[int, ...]
    grid: tuple[int, ...] = ()


@dataclass(frozen=True)
class Named:
    """What a name stands for: an expression and the scope in which it was written."""

    value: Expr
    scope: Scope


@dataclass(frozen=True)
class NamedTokens(Named):
    """The value of a parameter for tokens; a number is a position, also with a minus in front."""


@dataclass(frozen=True)
class Given:
    """A run-time input of one batch element: tokens, an id for each token, or pairs."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Scope:
    """The names that can be used at a place; what can be called; whether a grid is around."""

    patterns: Mapping[str, Pattern]
    inputs: Mapping[str, Given]
    in_grid: bool = False
    names: Mapping[str, Named | int | bool | Given] = field(default_factory=dict)

    def find(self, name: str) -> Named | int | bool | Given | None:
        return self.names.get(name)

    def inside(self, statements: Sequence[Statement]) -> Scope:
        """The scope in the braces around these statements."""
        mine: dict[str, Named | int | bool | Given] = {}
        scope = replace(self, names=_Layered(mine, self.names))
        for one in statements:
            if isinstance(one, Let):
                mine[one.name] = Named(one.value, scope)
            elif isinstance(one, Input):
                mine[one.name] = self.inputs[one.name]
        return scope


class _Layered(dict[str, Any]):
    """Names of a body in front of those around; `let` may refer to a name that comes later."""

    def __init__(self, mine: Mapping[str, Any], around: Mapping[str, Any]) -> None:
        super().__init__()
        self.mine, self.around = mine, around

    def get(self, name: str, default: Any = None) -> Any:
        return self.mine.get(name, self.around.get(name, default))


# --- kinds of expressions ------------------------------------------------------------------------

NUMBER, CONDITION, TOKENS, RELATION = "number", "condition", "tokens", "relation"
FUNCTIONS = {"min", "max", "abs", "log2", "isqrt", "ceil_div", "count"}
VARIABLES = {"n", "head", "heads", "layer", "layers", "i", "j"}


def kind_of(expr: Expr, scope: Scope) -> str:
    """Whether an expression is a number, a condition, a token set or a relation."""
    match expr:
        case Number():
            return NUMBER
        case Boolean() | Compare() | Unary(operator="not") | Binary(operator="and" | "or"):
            return CONDITION
        case Interval() | Ends() | Every() | Listing():
            return TOKENS
        case Unary(operator="~"):
            return RELATION
        case Unary(operator="-"):
            return NUMBER
        case Binary(operator="|" | "&" | "-"):
            kinds = {kind_of(expr.left, scope), kind_of(expr.right, scope)}
            if RELATION in kinds:
                return RELATION
            return NUMBER if expr.operator == "-" and kinds == {NUMBER} else TOKENS
        case Binary():
            return NUMBER
        case Call(name=name):
            return NUMBER if name in FUNCTIONS else RELATION
        case Name(name=name):
            return kind_of_name(name, scope)


def kind_of_name(name: str, scope: Scope) -> str:
    if name in VARIABLES:
        return NUMBER
    match scope.find(name):
        case bool():
            return CONDITION
        case int():
            return NUMBER
        case NamedTokens():
            return TOKENS
        case Named(value=value, scope=inner):
            return kind_of(value, inner)
        case Given():
            return TOKENS
        case None:
            return RELATION


# --- numbers and conditions ----------------------------------------------------------------------


def checked(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise Meaningless(f"{value} is beyond 64 bits")
    return value


def number(expr: Expr, scope: Scope, view: View, at: At = None) -> int:
    match expr:
        case Number(value=value):
            return checked(value)
        case Name(name=name):
            return _number_of_name(name, scope, view, at)
        case Unary(operator="-", operand=operand):
            return checked(-number(operand, scope, view, at))
        case Binary(operator=sign, left=left, right=right):
            a, b = number(left, scope, view, at), number(right, scope, view, at)
            return checked(_calculated(sign, a, b))
        case Call(name="count", arguments=[one]):
            return len(tokens(one.value, scope, view))
        case Call(name=name, arguments=arguments):
            return checked(_applied(name, [number(a.value, scope, view, at) for a in arguments]))
    raise AssertionError(expr)


def _number_of_name(name: str, scope: Scope, view: View, at: At) -> int:
    if name in ("i", "j"):
        assert at is not None
        return at[0] if name == "i" else at[1]
    if name in VARIABLES:
        return int(getattr(view, name))
    found = scope.find(name)
    if isinstance(found, Named):
        return number(found.value, found.scope, view)
    assert isinstance(found, int), name
    return found


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "^": operator.xor,
}


def _calculated(sign: str, a: int, b: int) -> int:
    if sign in ("//", "%") and b == 0:
        raise Meaningless("division by zero")
    if sign == "**" and b < 0:
        raise Meaningless("a negative exponent")
    if sign == "**" and abs(a) > 1 and b > 64:
        raise Meaningless("a power beyond 64 bits")
    return OPERATIONS[sign](a, b)


def _applied(name: str, values: Sequence[int]) -> int:
    if name == "min":
        return min(values)
    if name == "max":
        return max(values)
    if name == "abs":
        return abs(values[0])
    if name == "log2":
        if values[0] < 1:
            raise Meaningless("the logarithm of a number below 1")
        return values[0].bit_length() - 1
    if name == "isqrt":
        if values[0] < 0:
            raise Meaningless("the root of a negative number")
        return math.isqrt(values[0])
    if name == "ceil_div":
        if values[1] == 0:
            raise Meaningless("division by zero")
        return -(-values[0] // values[1])
    raise AssertionError(name)


def condition(expr: Expr, scope: Scope, view: View, at: At = None) -> bool:
    match expr:
        case Boolean(value=value):
            return value
        case Name(name=name):
            found = scope.find(name)
            if isinstance(found, Named):
                return condition(found.value, found.scope, view)
            assert isinstance(found, bool), name
            return found
        case Unary(operator="not", operand=operand):
            return not condition(operand, scope, view, at)
        case Binary(operator="and", left=left, right=right):
            return condition(left, scope, view, at) and condition(right, scope, view, at)
        case Binary(operator="or", left=left, right=right):
            return condition(left, scope, view, at) or condition(right, scope, view, at)
        case Compare(operators=signs, operands=operands):
            # As in Python: what follows a comparison that does not hold need not have a value.
            left = number(operands[0], scope, view, at)
            for sign, operand in zip(signs, operands[1:], strict=True):
                right = number(operand, scope, view, at)
                if not COMPARISONS[sign](left, right):
                    return False
                left = right
            return True
    raise AssertionError(expr)


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


# --- token sets ----------------------------------------------------------------------------------


def tokens(expr: Expr, scope: Scope, view: View) -> set[int]:
    if kind_of(expr, scope) == NUMBER:
        return {_position(expr, scope, view)}
    match expr:
        case Interval():
            start, stop = number(expr.start, scope, view), number(expr.stop, scope, view)
            return {t for t in range(view.n) if start <= t < stop}
        case Ends():
            count = number(expr.count, scope, view)
            if count < 0:
                raise Meaningless(f"`{expr.end}` of {count} tokens")
            first = 0 if expr.end == "first" else view.n - count
            return {t for t in range(view.n) if first <= t < first + count}
        case Every():
            step = number(expr.step, scope, view)
            start = 0 if expr.start is None else number(expr.start, scope, view)
            if step < 1 or start < 0:
                raise Meaningless(f"every {step} tokens from {start}")
            return {t for t in range(start, view.n) if (t - start) % step == 0}
        case Listing(items=items):
            return set().union(*(tokens(one, scope, view) for one in items))
        case Binary(operator=sign, left=left, right=right):
            a, b = tokens(left, scope, view), tokens(right, scope, view)
            return a | b if sign == "|" else a & b if sign == "&" else a - b
        case Name(name=name):
            found = scope.find(name)
            if isinstance(found, Given):
                return set(found.value)
            assert isinstance(found, Named), name
            return tokens(found.value, found.scope, view)
    raise AssertionError(expr)


def _position(expr: Expr, scope: Scope, view: View) -> int:
    """The token of a number: from the end when the number is written with a minus in front."""
    value = number(expr, scope, view)
    if isinstance(expr, Unary) and value < 0:
        value += view.n
    if not 0 <= value < view.n:
        raise Meaningless(f"there is no token {value} of {view.n}")
    return value


# --- relations -----------------------------------------------------------------------------------


def everything(n: int) -> Pairs:
    return {(i, j) for i in range(n) for j in range(n)}


def such_that(n: int, test: Callable[[int, int], bool]) -> Pairs:
    return {(i, j) for i in range(n) for j in range(n) if test(i, j)}


def relation(expr: Expr, scope: Scope, view: View) -> Pairs:
    match expr:
        case Unary(operator="~", operand=operand):
            return everything(view.n) - relation(operand, scope, view)
        case Binary(operator=sign, left=left, right=right):
            a, b = relation(left, scope, view), relation(right, scope, view)
            return a | b if sign == "|" else a & b if sign == "&" else a - b
        case Name(name=name):
            found = scope.find(name)
            if isinstance(found, Named):
                return relation(found.value, found.scope, view)
            return _called(name, (), None, scope, view)
        case Call(name=name, arguments=arguments, body=body):
            return _called(name, arguments, body, scope, view)
    raise AssertionError(expr)


def _called(
    name: str,
    arguments: Sequence[Argument],
    body: Sequence[Statement] | None,
    scope: Scope,
    view: View,
) -> Pairs:
    if name in scope.patterns:
        return _pattern_call(scope.patterns[name], arguments, scope, view)
    arguments_of = Arguments(arguments, scope, view)
    if scope.in_grid and name in OF_CELLS:
        return OF_CELLS[name](arguments_of)
    if name == "blocks":
        assert body is not None
        return _blocks(arguments_of.number("size"), body, scope, view)
    if name == "grid":
        assert body is not None
        return body_of(body, replace(scope, in_grid=True), replace(view, grid=arguments_of.shape()))
    return PRIMITIVES[name](arguments_of)


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call by name, or the only one without a name."""

    given: Sequence[Argument]
    scope: Scope
    view: View

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
    outside = set() if rest is None else relation(rest, given.scope, view)
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
    return {(j, i) for i, j in relation(one.value, given.scope, given.view)}


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


# --- bodies, blocks and calls --------------------------------------------------------------------


def taken(
    statements: Sequence[Statement], scope: Scope, view: View
) -> Iterator[tuple[Statement, Scope]]:
    """The statements of a body and of the branches that `when` chooses, and their scopes."""
    inner = scope.inside(statements)
    for one in statements:
        if isinstance(one, When):
            chosen = one.then if condition(one.condition, inner, view) else one.otherwise
            yield from taken(chosen or (), inner, view)
        else:
            yield one, inner


def body_of(statements: Sequence[Statement], scope: Scope, view: View) -> Pairs:
    """`((all expressions) & (all onlys)) - (all nevers)`."""
    found = list(taken(statements, scope, view))
    prefix = prefix_of_onlys(found, view)
    if prefix is not None:
        shorter = tuple(min(pair) for pair in zip(view.drawable, prefix, strict=True))
        view = replace(view, drawable=shorter)
    pairs: Pairs = set()
    for one, inner in found:
        if isinstance(one, Add):
            pairs |= relation(one.value, inner, view)
    for one, inner in found:
        if isinstance(one, Only):
            pairs &= relation(one.value, inner, view)
    for one, inner in found:
        if isinstance(one, Never):
            pairs -= relation(one.value, inner, view)
    return pairs


def _blocks(size: int, body: Sequence[Statement], scope: Scope, view: View) -> Pairs:
    number_of_blocks = -(-view.n // size)
    drawable = [0] * number_of_blocks
    for i, keys in enumerate(view.drawable):
        drawable[i // size] = max(drawable[i // size], -(-keys // size))
    inner = replace(view, n=number_of_blocks, drawable=tuple(drawable), grid=())
    pairs = body_of(body, replace(scope, in_grid=False), inner)
    return such_that(view.n, lambda i, j: (i // size, j // size) in pairs)


def _pattern_call(
    pattern: Pattern, arguments: Sequence[Argument], scope: Scope, view: View
) -> Pairs:
    inner = _scope_of_call(pattern, arguments, scope, view)
    return body_of(pattern.body, inner, replace(view, drawable=(view.n,) * view.n, grid=()))


def _scope_of_call(
    pattern: Pattern, arguments: Sequence[Argument], scope: Scope, view: View
) -> Scope:
    in_order = (one.name for one in pattern.parameters)
    given = {
        next(in_order) if one.name is None else one.name: Named(one.value, scope)
        for one in arguments
    }
    return _parameters(pattern, given, scope, view)


def _parameters(pattern: Pattern, given: Mapping[str, Named], scope: Scope, view: View) -> Scope:
    """The scope of a pattern's body: its parameters have their values, token sets as written."""
    names: dict[str, Named | int | bool | Given] = {}
    inner = replace(scope, names=names, in_grid=False)
    for one in pattern.parameters:
        default = None if one.default is None else Named(one.default, inner)
        value = given.get(one.name, default)
        assert value is not None, one.name
        kind = one.kind
        if kind is None:
            # A type that is omitted is that of the default.
            assert default is not None
            kinds = {NUMBER: "int", CONDITION: "bool", TOKENS: "tokens"}
            kind = kinds[kind_of(default.value, inner)]
        if kind == "int":
            names[one.name] = number(value.value, value.scope, view)
        elif kind == "bool":
            names[one.name] = condition(value.value, value.scope, view)
        else:
            names[one.name] = NamedTokens(value.value, value.scope)
    return inner


# --- prefixes ------------------------------------------------------------------------------------

Prefix = tuple[int, ...] | None
"""For each query how many keys, from 0 on; None when rows are not known to be prefixes."""


def prefix_of_onlys(found: Sequence[tuple[Statement, Scope]], view: View) -> Prefix:
    """What the `only` statements whose rows are prefixes leave; None when there are none."""
    known: list[tuple[int, ...]] = []
    for one, scope in found:
        if isinstance(one, Only):
            prefix = prefix_of(one.value, scope, view)
            if prefix is not None:
                known.append(prefix)
            elif _has_rule(one.value, scope) and _has_prefixes(
                relation(one.value, scope, view), view.n
            ):
                raise Unsettled("an `only` whose rows are prefixes, but does not say so")
    return tuple(map(min, *known, known[0])) if known else None


def _has_rule(expr: Expr, scope: Scope) -> bool:
    """Whether it depends on a `where` if an expression is a prefix."""
    match expr:
        case Binary(operator="|" | "&", left=left, right=right):
            return _has_rule(left, scope) or _has_rule(right, scope)
        case Name(name=name) | Call(name=name):
            found = scope.find(name)
            if isinstance(found, Named):
                return _has_rule(found.value, found.scope)
            inner = scope.patterns[name].body if name in scope.patterns else ()
            if isinstance(expr, Call):
                inner += expr.body or ()
            rules = {"where", *scope.patterns}
            return name == "where" or any(_mentions(one, rules) for one in inner)
    return False


def _has_prefixes(pairs: Pairs, n: int) -> bool:
    rows = [{j for j in range(n) if (i, j) in pairs} for i in range(n)]
    return all(row == set(range(len(row))) for row in rows)


def prefix_of(expr: Expr, scope: Scope, view: View) -> Prefix:
    match expr:
        case Binary(operator="|" | "&" as sign, left=left, right=right):
            a, b = prefix_of(left, scope, view), prefix_of(right, scope, view)
            if a is None or b is None:
                return None
            return tuple(map(max if sign == "|" else min, a, b))
        case Name(name=name):
            found = scope.find(name)
            if isinstance(found, Named):
                return prefix_of(found.value, found.scope, view)
            return _prefix_of_call(name, (), None, scope, view)
        case Call(name=name, arguments=arguments, body=body):
            return _prefix_of_call(name, arguments, body, scope, view)
    return None


def _prefix_of_call(
    name: str,
    arguments: Sequence[Argument],
    body: Sequence[Statement] | None,
    scope: Scope,
    view: View,
) -> Prefix:
    given = Arguments(arguments, scope, view)
    if name == "causal":
        return tuple(range(1, view.n + 1))
    if name == "broadcast":
        count = len(given.tokens())
        return (count,) * view.n if given.tokens() == set(range(count)) else None
    if name == "where":
        return _prefix_of_rule(arguments[0].value, scope, view)
    if name == "blocks" and body is not None:
        size = given.number("size")
        inner = replace(view, n=-(-view.n // size), drawable=(0,) * -(-view.n // size), grid=())
        prefix = _prefix_of_body(body, replace(scope, in_grid=False), inner)
        return prefix and tuple(min(prefix[i // size] * size, view.n) for i in range(view.n))
    if name == "grid" and body is not None:
        return _prefix_of_body(
            body, replace(scope, in_grid=True), replace(view, grid=given.shape())
        )
    if name in scope.patterns:
        pattern = scope.patterns[name]
        return _prefix_of_body(pattern.body, _scope_of_call(pattern, arguments, scope, view), view)
    return None


def _prefix_of_body(statements: Sequence[Statement], scope: Scope, view: View) -> Prefix:
    found = list(taken(statements, scope, view))
    if any(isinstance(one, Never) for one, _ in found):
        return None
    each: list[Prefix] = []
    for one, inner in found:
        if isinstance(one, Only):
            each.append(prefix_of(one.value, inner, view))
    total = tuple([0] * view.n)
    for one, inner in found:
        if isinstance(one, Add):
            prefix = prefix_of(one.value, inner, view)
            if prefix is None:
                return None
            total = tuple(map(max, total, prefix))
    for only in each:
        if only is None:
            return None
        total = tuple(map(min, total, only))
    return total


def _prefix_of_rule(rule: Expr, scope: Scope, view: View, negated: bool = False) -> Prefix:
    """Joins of comparisons of `i`, and of upper bounds on `j` or `j - i`, with numbers."""
    match rule:
        case Unary(operator="not", operand=operand):
            return _prefix_of_rule(operand, scope, view, not negated)
        case Binary(operator="and" | "or" as sign, left=left, right=right):
            sides = [side for side in (left, right) if _mentions(side, "ij")]
            decided = [condition(side, scope, view) for side in (left, right) if side not in sides]
            if (sign == "or") in decided:
                return None
            each = [_prefix_of_rule(side, scope, view, negated) for side in sides]
            return _joined(each, all_of=(sign == "and") != negated)
        case Compare(operators=signs, operands=operands):
            links = zip(signs, pairwise(operands), strict=True)
            each = [
                _prefix_of_comparison(NEGATED[one] if negated else one, left, right, scope, view)
                for one, (left, right) in links
            ]
            return _joined(each, all_of=not negated)
    return None


NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _joined(each: Sequence[Prefix], all_of: bool) -> Prefix:
    known = [one for one in each if one is not None]
    if not known or len(known) < len(each):
        return None
    choose = min if all_of else max
    return tuple(choose(row) for row in zip(*known, strict=True))


def _prefix_of_comparison(sign: str, left: Expr, right: Expr, scope: Scope, view: View) -> Prefix:
    a, b = _linear(left, scope, view), _linear(right, scope, view)
    if a is None or b is None:
        return None
    by_i, by_j, rest = (x - y for x, y in zip(a, b, strict=True))
    is_upper = (by_j > 0 and sign in ("<", "<=")) or (by_j < 0 and sign in (">", ">="))
    is_of_i_alone = by_j == 0 and by_i != 0
    if not (is_of_i_alone or (is_upper and by_i in (0, -by_j))):
        return None
    return tuple(
        sum(COMPARISONS[sign](by_i * i + by_j * j + rest, 0) for j in range(view.n))
        for i in range(view.n)
    )


def _linear(expr: Expr, scope: Scope, view: View) -> tuple[int, ...] | None:
    """The factors of `i`, of `j` and of 1, for a sum of multiples of `i` and `j`."""
    if not _mentions(expr, "ij"):
        return 0, 0, number(expr, scope, view)
    match expr:
        case Name(name=name):
            return int(name == "i"), int(name == "j"), 0
        case Unary(operator="-", operand=operand):
            inner = _linear(operand, scope, view)
            return inner and tuple(-one for one in inner)
        case Binary(operator="+" | "-" as sign, left=left, right=right):
            a, b = _linear(left, scope, view), _linear(right, scope, view)
            factor = 1 if sign == "+" else -1
            return a and b and tuple(x + factor * y for x, y in zip(a, b, strict=True))
        case Binary(operator="*", left=left, right=right):
            if _mentions(left, "ij"):
                left, right = right, left
            b = _linear(right, scope, view)
            if b is None or _mentions(left, "ij"):
                return None
            return tuple(number(left, scope, view) * one for one in b)
    return None


def _mentions(node: Node, names: Collection[str]) -> bool:
    if isinstance(node, (Name, Call)) and node.name in names:
        return True
    return any(_mentions(child, names) for child in children(node))


# --- the whole -----------------------------------------------------------------------------------


def pairs(
    text: str,
    n: int,
    head: int = 0,
    heads: int = 1,
    layer: int = 0,
    layers: int = 1,
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    element: int = 0,
) -> tuple[int, Pairs]:
    """The number of memory tokens and the pairs, memory first, of the main pattern of a text."""
    file = parse(text)
    patterns = {one.name: one for one in file.patterns}
    main = patterns.get("main", file.patterns[-1])
    for use in file.uses:
        patterns |= _bundled(use.target)
    kinds = _kinds_of_inputs(file.patterns)
    given = {
        name: Given(kinds[name], input_of(kinds[name], value, n, element))
        for name, value in (inputs or {}).items()
    }
    root = Scope(patterns, given)
    view = View(n, head, heads, layer, layers, (n,) * n)
    values = {name: Named(_as_expr(value), root) for name, value in (params or {}).items()}
    scope = _parameters(main, values, root, view)
    found = list(taken(main.body, scope, view))
    memory, of_memory = _memory(found, view)
    of_tokens = body_of(main.body, scope, view)
    return memory, of_memory | {(i + memory, j + memory) for i, j in of_tokens}


def _bundled(name: str) -> dict[str, Pattern]:
    text = files("attnloom.patterns").joinpath(f"{name}.attn").read_text(encoding="utf-8")
    return {one.name: one for one in parse(text).patterns}


def _memory(found: Sequence[tuple[Statement, Scope]], view: View) -> tuple[int, Pairs]:
    """The number of memory tokens, and the pairs with memory."""
    statements = [(one, scope) for one, scope in found if isinstance(one, Memory)]
    if not statements:
        return 0, set()
    ((statement, scope),) = statements
    given = Arguments(statement.arguments, scope, view)
    m = given.number("tokens", least=0)
    reads, read = given.flag("reads", True), given.flag("read", True)
    pairs = such_that(m + view.n, lambda i, j: (i < m and reads) or (j < m and read))
    if prefix_of_onlys(found, view) is not None:
        pairs = {(i, j) for i, j in pairs if i >= m or j <= i}
    return m, pairs


def _as_expr(value: Any) -> Expr:
    """A value given from outside as an expression of the language."""
    if isinstance(value, range):
        value = f"{value.start}..{value.stop}"
    return parse_expression(str(value).lower() if isinstance(value, bool) else str(value))


def _kinds_of_inputs(patterns: Sequence[Pattern]) -> dict[str, str]:
    return {
        one.name: one.kind for pattern in patterns for one in pattern.body if isinstance(one, Input)
    }


def input_of(kind: str, value: Any, n: int, element: int) -> Any:
    """What an input is for one batch element."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if kind == "links":
        return _links_of(value, element)
    if _is_batch(value):
        value = value[element]
    if kind == "tokens" and value and isinstance(value[0], bool):
        return {t for t in range(n) if value[t]}
    return list(value) if kind == "segments" else set(value)


def _is_batch(value: Sequence[Any]) -> bool:
    return bool(value) and isinstance(value[0], (list, tuple))


def _links_of(value: Any, element: int) -> Pairs:
    if isinstance(value, list) and value and (isinstance(value[0], tuple) or _is_batch(value[0])):
        value = value[element]
    if isinstance(value, tuple):
        offsets, keys = value
        rows = pairwise(offsets)
        return {(i, int(j)) for i, (start, stop) in enumerate(rows) for j in keys[start:stop]}
    return {(i, j) for i, keys in enumerate(value) for j in keys}
