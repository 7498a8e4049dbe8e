"""The operators and functions on numbers, exactly: for one number, for arrays, and for ranges.

Every operation has one entry in `OPERATIONS`. Numbers are integers within 64 bits and conditions
are 0 and 1. Ranges answer what an expression can be while its operands vary: with them a condition
is known to be true, or false, on a whole tile, and to stay within 64 bits on a whole sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.limits import MAX_NUMBER

Ints = NDArray[np.int64]
Range = tuple[Any, Any]
"""The least and the largest value, both inclusive: integers, or arrays of them."""


class BadValue(ArithmeticError):
    """An operand that an operation does not take; the message says which and why."""

    def __init__(self, message: str, least: int = 0) -> None:
        super().__init__(message)
        self.least = least
        """The least operand that it takes."""


class DivisionByZero(BadValue):
    """Division by zero."""


class NumberTooLarge(BadValue):
    """A result beyond 64 bits."""


@dataclass(frozen=True)
class Operation:
    """An operator or function.

    `scalar` takes Python integers, `array` int64 arrays, `bounds` ranges of them, which may be of
    one element or of arrays. `least` and `most` limit the number of operands.
    """

    scalar: Callable[..., int]
    array: Callable[..., Any]
    bounds: Callable[..., Range]
    least: int
    most: int
    is_condition: bool = False
    of_conditions: bool = False


def _divided(a: int, b: int) -> int:
    if b == 0:
        raise DivisionByZero("division by zero")
    return a // b


def _modulo(a: int, b: int) -> int:
    if b == 0:
        raise DivisionByZero("division by zero")
    return a % b


def _power(a: int, b: int) -> int:
    if b < 0:
        raise BadValue(f"the exponent of `**` must be at least 0, got {b}")
    if abs(a) > 1 and b * math.log2(abs(a)) > 64:
        raise NumberTooLarge(f"{a} ** {b} is beyond 64 bits")
    return int(a**b)


def _ceil_div(a: int, b: int) -> int:
    return -_divided(-a, b)


def _log2(a: int) -> int:
    if a < 1:
        raise BadValue(f"`log2` takes a number of at least 1, got {a}", least=1)
    return a.bit_length() - 1


def _isqrt(a: int) -> int:
    if a < 0:
        raise BadValue(f"`isqrt` takes a number of at least 0, got {a}")
    return math.isqrt(a)


# --- arrays --------------------------------------------------------------------------------------


def _array_log2(a: NDArray[Any]) -> NDArray[Any]:
    if a.dtype == object:
        return np.asarray(np.frompyfunc(_log2, 1, 1)(a))
    # The exponent of a float; large numbers may have been rounded up to the next power of two.
    exponent = (a.astype(np.float64).view(np.int64) >> 52) - 1023
    exponent -= (np.int64(1) << exponent) > a
    return exponent.astype(a.dtype)


def _array_isqrt(a: Ints) -> Ints:
    root = np.sqrt(a.astype(np.float64)).astype(np.int64)
    root = np.where(root * root > a, root - 1, root)
    return np.where((root + 1) * (root + 1) <= a, root + 1, root)


# --- ranges --------------------------------------------------------------------------------------


def _corners(function: Callable[..., Any]) -> Callable[..., Range]:
    """The range of a function that is monotone in each operand while the other stays."""

    def bounds(a: Range, b: Range) -> Range:
        values = [function(x, y) for x in a for y in b]
        low, high = values[0], values[0]
        for value in values[1:]:
            low, high = np.minimum(low, value), np.maximum(high, value)
        return low, high

    return bounds


def _modulo_bounds(a: Range, b: Range) -> Range:
    low, high = a
    m_low, m_high = b
    same = (m_low == m_high) & (np.floor_divide(low, m_low) == np.floor_divide(high, m_low))
    # The sign of a remainder is that of the divisor, which does not change within its range.
    widest = np.where(np.greater(m_low, 0), m_high - 1, 0)
    deepest = np.where(np.greater(m_low, 0), 0, m_low + 1)
    near = np.greater_equal(low, 0) & np.greater(m_low, 0)
    widest = np.where(near, np.minimum(widest, np.maximum(high, 0)), widest)
    return (
        np.where(same, np.mod(low, m_low), deepest),
        np.where(same, np.mod(high, m_low), widest),
    )


def _xor_bounds(a: Range, b: Range) -> Range:
    """Bits above the highest one in which either operand varies are known."""
    varying = _filled(np.bitwise_xor(*a)) | _filled(np.bitwise_xor(*b))
    known = np.bitwise_xor(a[0], b[0]) & ~varying
    # Where a sign varies, all that is known is how many bits there are.
    bits = _filled(reduce(np.bitwise_or, [np.abs(end) for end in (*a, *b)]))
    is_signed = np.less(varying, 0)
    return np.where(is_signed, ~bits, known), np.where(is_signed, bits, known | varying)


def _filled(bits: Any) -> Any:
    """All ones up to the highest bit that is set; all bits if the sign is."""
    for shift in (1, 2, 4, 8, 16, 32):
        bits = bits | (bits >> shift)
    return bits


def _abs_bounds(a: Range) -> Range:
    low, high = a
    least = np.where((np.less_equal(low, 0)) & (np.greater_equal(high, 0)), 0, 1)
    nearest = np.minimum(np.abs(low), np.abs(high)) * least
    return nearest, np.maximum(np.abs(low), np.abs(high))


def _power_bounds(a: Range, b: Range) -> Range:
    values = _corners(np.power)(a, b)
    low = np.where(np.less(a[0], 0), np.minimum(values[0], -np.abs(values[1])), values[0])
    low = np.where(np.less(a[0], 0), np.minimum(low, -np.power(np.abs(a[0]), b[1])), low)
    high = np.where(
        np.less(a[0], 0), np.maximum(values[1], np.power(np.abs(a[0]), b[1])), values[1]
    )
    return low, high


def _either_way(certain: Any, possible: Any) -> Range:
    return np.asarray(certain).astype(np.int64), np.asarray(possible).astype(np.int64)


def _less(a: Range, b: Range) -> Range:
    return _either_way(np.less(a[1], b[0]), np.less(a[0], b[1]))


def _less_equal(a: Range, b: Range) -> Range:
    return _either_way(np.less_equal(a[1], b[0]), np.less_equal(a[0], b[1]))


def _equal(a: Range, b: Range) -> Range:
    overlap = np.less_equal(a[0], b[1]) & np.less_equal(b[0], a[1])
    single = np.equal(a[0], a[1]) & np.equal(b[0], b[1]) & np.equal(a[0], b[0])
    return _either_way(single, overlap)


def _inverted(a: Range) -> Range:
    return 1 - a[1], 1 - a[0]


def _fold(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *operands: reduce(function, operands)


def _fold_bounds(function: Callable[..., Any]) -> Callable[..., Range]:
    def folded(*ranges: Range) -> Range:
        lows, highs = zip(*ranges, strict=True)
        return reduce(function, lows), reduce(function, highs)

    return folded


def _condition(scalar: Callable[..., bool]) -> Callable[..., int]:
    return lambda *operands: int(scalar(*operands))


OPERATIONS: dict[str, Operation] = {
    "+": Operation(lambda a, b: a + b, np.add, _corners(np.add), 2, 2),
    "-": Operation(lambda a, b: a - b, np.subtract, _corners(np.subtract), 2, 2),
    "*": Operation(lambda a, b: a * b, np.multiply, _corners(np.multiply), 2, 2),
    "//": Operation(_divided, np.floor_divide, _corners(np.floor_divide), 2, 2),
    "%": Operation(_modulo, np.mod, _modulo_bounds, 2, 2),
    "**": Operation(_power, np.power, _power_bounds, 2, 2),
    "^": Operation(lambda a, b: a ^ b, np.bitwise_xor, _xor_bounds, 2, 2),
    "negative": Operation(lambda a: -a, np.negative, lambda a: (-a[1], -a[0]), 1, 1),
    "abs": Operation(abs, np.abs, _abs_bounds, 1, 1),
    "log2": Operation(
        _log2, _array_log2,
        lambda a: (_array_log2(np.asarray(a[0])), _array_log2(np.asarray(a[1]))), 1, 1,
    ),
    "isqrt": Operation(
        _isqrt, _array_isqrt,
        lambda a: (_array_isqrt(np.asarray(a[0])), _array_isqrt(np.asarray(a[1]))), 1, 1,
    ),
    "ceil_div": Operation(
        _ceil_div, lambda a, b: -np.floor_divide(-a, b),
        _corners(lambda a, b: -np.floor_divide(-a, b)), 2, 2,
    ),
    "min": Operation(min, _fold(np.minimum), _fold_bounds(np.minimum), 2, 64),
    "max": Operation(max, _fold(np.maximum), _fold_bounds(np.maximum), 2, 64),
    "<": Operation(_condition(lambda a, b: a < b), np.less, _less, 2, 2, True),
    "<=": Operation(_condition(lambda a, b: a <= b), np.less_equal, _less_equal, 2, 2, True),
    ">": Operation(
        _condition(lambda a, b: a > b), np.greater, lambda a, b: _less(b, a), 2, 2, True
    ),
    ">=": Operation(
        _condition(lambda a, b: a >= b), np.greater_equal, lambda a, b: _less_equal(b, a),
        2, 2, True,
    ),
    "==": Operation(_condition(lambda a, b: a == b), np.equal, _equal, 2, 2, True),
    "!=": Operation(
        _condition(lambda a, b: a != b), np.not_equal, lambda a, b: _inverted(_equal(a, b)),
        2, 2, True,
    ),
    "and": Operation(
        lambda a, b: a & b, np.logical_and, _fold_bounds(np.minimum), 2, 2, True, True
    ),
    "or": Operation(lambda a, b: a | b, np.logical_or, _fold_bounds(np.maximum), 2, 2, True, True),
    "not": Operation(lambda a: 1 - a, np.logical_not, _inverted, 1, 1, True, True),
}  # fmt: skip
"""Every operation by the name it has in the typed tree."""

FUNCTIONS = ("min", "max", "abs", "log2", "isqrt", "ceil_div")
"""The operations that are written as calls."""


def apply(name: str, operands: list[int]) -> int:
    """The value of an operation on integers.

    >>> apply("ceil_div", [7, 2]), apply("^", [6, 3]), apply("log2", [1000])
    (4, 5, 9)

    Raises:
        BadValue: an operand is out of its domain, or the result beyond 64 bits.
    """
    value = OPERATIONS[name].scalar(*operands)
    if not -MAX_NUMBER < value < MAX_NUMBER:
        raise NumberTooLarge("the number is beyond 64 bits")
    return value
