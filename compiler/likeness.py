"""On which tiles does a condition look the same? Found without asking it for any pair.

On a tile an expression is a number, its *base*, plus a function of the places within the tile.
Some numbers, its *shape*, say which function: on tiles of equal shape it is the same. `i` is the
tile's first row plus the place, so its shape is empty; `i % 8` has the remainder of the first row
in its shape, or nothing where the tile does not run over a multiple of 8. What is known from the
range of an expression, such as a comparison that always holds, has no shape either.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.arithmetic import OPERATIONS
from attnloom.compiler.expressions import Expression
from attnloom.compiler.runs import Ints

Bools = NDArray[np.bool_]

_ZERO = np.zeros((), dtype=np.int64)
_NOTHING = -(1 << 62)
"""In shapes: this number does not matter here."""


class Local(NamedTuple):
    """An expression on some tiles: its range, its base, and the numbers of its shape.

    Shapes:
        low, high, base, and each of shape: `(num_tiles,)`, or `()` where they are all equal
    """

    low: Ints
    high: Ints
    base: Ints
    shape: tuple[Ints, ...] = ()


def likeness(expression: Expression, i: Local, j: Local) -> list[Ints]:
    """Numbers for each tile; where all are equal, so is the expression on every place.

    >>> rows, keys = (Local(np.array(x), np.array(x) + 3, np.array(x)) for x in ([0, 4], [8, 12]))
    >>> apart = Expression("-", (Expression("i"), Expression("j")))
    >>> [x.tolist() for x in likeness(Expression("abs", (apart,)), rows, keys)]
    [[8, 8], [-1, -1], [-4611686018427387904, -4611686018427387904]]
    """
    found = _local(expression, i, j)
    return [found.base, *found.shape]


def quotient(position: Local, divisor: int) -> Local:
    """The block of each position, for blocks of `divisor`."""
    low, high = position.low // divisor, position.high // divisor
    return Local(low, high, *_quotient(position, divisor))


def _local(expression: Expression, i: Local, j: Local) -> Local:
    if expression.is_number:
        value = np.asarray(expression.value, dtype=np.int64)
        return Local(value, value, value)
    if expression.name in ("i", "j"):
        return i if expression.name == "i" else j
    operands = [_local(operand, i, j) for operand in expression.operands]
    low, high = OPERATIONS[expression.name].bounds(*((one.low, one.high) for one in operands))
    base, shape = _combined(expression, operands)
    # A value that does not vary is all there is to say.
    known = np.equal(low, high)
    return Local(low, high, np.where(known, low, base), _unless(known, shape))


_Form = tuple[Ints, tuple[Ints, ...]]
"""A base and a shape."""


def _combined(expression: Expression, operands: list[Local]) -> _Form:
    a, *others = operands
    shape = tuple(x for one in operands for x in one.shape)
    match expression.name, expression.operands:
        case "+", _:
            return a.base + others[0].base, shape
        case "-", _:
            return a.base - others[0].base, shape
        case "negative", _:
            return -a.base, shape
        case "*", (_, Expression(name="number", value=factor)):
            return a.base * factor, shape
        case "*", (Expression(name="number", value=factor), _):
            return others[0].base * factor, shape
        case "//", (_, Expression(name="number", value=divisor)):
            return _quotient(a, divisor)
        case "%", (_, Expression(name="number", value=divisor)):
            return _remainder(a, divisor)
        case "abs", _:
            sign = np.where(
                np.greater_equal(a.low, 0), 1, np.where(np.less_equal(a.high, 0), -1, 0)
            )
            return a.base * sign, (*shape, sign, np.where(sign == 0, a.base, _NOTHING))
        case (("min" | "max"), _):
            return a.base, (*shape, *(one.base - a.base for one in others))
        case (("<" | "<=" | ">" | ">=" | "==" | "!="), _):
            return _ZERO, (*shape, a.base - others[0].base)
    return _ZERO, (*shape, *(one.base for one in operands))


def _quotient(a: Local, divisor: int) -> _Form:
    block, stays = _block(a, divisor)
    rest = np.where(stays, _NOTHING, np.mod(a.base, divisor))
    base = np.where(stays, block, np.floor_divide(a.base, divisor))
    return base, (*_unless(stays, a.shape), rest)


def _remainder(a: Local, divisor: int) -> _Form:
    block, stays = _block(a, divisor)
    rest = np.where(stays, _NOTHING, np.mod(a.base, divisor))
    return np.where(stays, a.base - block * divisor, 0), (*a.shape, rest)


def _block(a: Local, divisor: int) -> tuple[Ints, Bools]:
    """The quotient at the least value, and whether it is that of all."""
    first, last = np.floor_divide(a.low, divisor), np.floor_divide(a.high, divisor)
    return first, np.equal(first, last)


def _unless(known: Bools, shape: tuple[Ints, ...]) -> tuple[Ints, ...]:
    return tuple(np.where(known, _NOTHING, x) for x in shape)
