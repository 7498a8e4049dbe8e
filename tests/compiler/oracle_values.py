"""What numbers, conditions and token sets of a program are, from the reference alone."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attnloom.grammar.syntax import (
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
    Name,
    Number,
    Pattern,
    Statement,
    Unary,
)

Pairs = set[tuple[int, int]]
At = tuple[int, int] | None
"""The query and the key inside of `where`, None elsewhere."""


class Meaningless(Exception):
    """The pattern has no meaning at this length; the message says why."""


class Unsettled(Exception):
    """The reference leaves open what this means; the message says what."""


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
