"""Expressions in the two positions `i` and `j`, all other names having become numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.arithmetic import (
    OPERATIONS,
    BadValue,
    DivisionByZero,
    NumberTooLarge,
    Range,
    apply,
)

_SAFE = 1 << 62


@dataclass(frozen=True)
class Expression:
    """A number (`name` is "number"), a position (`i` or `j`), or an operation on expressions.

    Equal expressions compare equal.
    """

    name: str
    operands: tuple[Expression, ...] = ()
    value: int = 0

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.operands, self.value))

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_number(self) -> bool:
        return self.name == "number"

    @cached_property
    def positions(self) -> frozenset[str]:
        """Which of `i` and `j` it depends on."""
        if self.name in ("i", "j"):
            return frozenset((self.name,))
        return frozenset().union(*(operand.positions for operand in self.operands))

    def evaluate(self, i: NDArray[Any], j: NDArray[Any]) -> Any:
        """Its value for arrays that broadcast; positions must be within the checked range.

        Both arrays have one type of integers, in which it is worked out.
        """
        if self.is_number:
            return i.dtype.type(self.value)
        if self.name in ("i", "j"):
            return i if self.name == "i" else j
        return OPERATIONS[self.name].array(*(operand.evaluate(i, j) for operand in self.operands))

    def bounds(self, i: Range, j: Range) -> Range:
        """What it can be while `i` and `j` vary within ranges, of numbers or of arrays."""
        if self.is_number:
            return np.int64(self.value), np.int64(self.value)
        if self.name in ("i", "j"):
            return i if self.name == "i" else j
        return OPERATIONS[self.name].bounds(*(operand.bounds(i, j) for operand in self.operands))

    def checked_bounds(self, length: int) -> tuple[int, int]:
        """What it can be over positions `0..length`, in exact arithmetic.

        Raises:
            BadValue: for some positions a value is undefined or beyond 62 bits.
        """
        if self.is_number:
            return self.value, self.value
        if self.name in ("i", "j"):
            return 0, length - 1
        ranges = [operand.checked_bounds(length) for operand in self.operands]
        _check_domain(self.name, ranges)
        # Python's own integers, which have no limit, in arrays of one.
        exact = [tuple(np.array([end], dtype=object) for end in one) for one in ranges]
        low, high = (int(end[0]) for end in OPERATIONS[self.name].bounds(*exact))
        if low <= -_SAFE or high >= _SAFE:
            raise NumberTooLarge("the number can be beyond 62 bits")
        return low, high

    def largest(self, length: int) -> int:
        """What no number on the way to its value exceeds, signs aside, over `0..length`."""
        ends = max(abs(end) for end in self.checked_bounds(length))
        return max([ends, *(operand.largest(length) for operand in self.operands)])

    def __str__(self) -> str:
        if self.is_number:
            return str(self.value)
        if not self.operands:
            return self.name
        inner = [
            f"({operand})" if operand.name in _INFIX else str(operand) for operand in self.operands
        ]
        if self.name in _INFIX:
            return f" {self.name} ".join(inner)
        if self.name in ("negative", "not"):
            return ("-" if self.name == "negative" else "not ") + inner[0]
        return f"{self.name}({', '.join(map(str, self.operands))})"


_INFIX = {"and", "or"} | {
    name
    for name, one in OPERATIONS.items()
    if one.least == 2 and not name.replace("_", "").isalpha()
}


def number(value: int) -> Expression:
    return Expression("number", (), int(value))


def operation(name: str, operands: tuple[Expression, ...]) -> Expression:
    """An operation, computed at once if its operands are numbers.

    >>> str(operation("%", (operation("-", (Expression("i"), Expression("j"))), number(4))))
    '(i - j) % 4'

    Raises:
        BadValue: the numbers are out of the operation's domain.
    """
    if all(operand.is_number for operand in operands):
        return number(apply(name, [operand.value for operand in operands]))
    return Expression(name, operands)


def _check_domain(name: str, ranges: list[tuple[int, int]]) -> None:
    """Raise if an operation is undefined, or too large to think of, somewhere in the ranges."""
    if name in ("//", "%", "ceil_div") and ranges[1][0] <= 0 <= ranges[1][1]:
        raise DivisionByZero("the divisor can be 0")
    if name == "log2" and ranges[0][0] < 1:
        raise BadValue(
            f"`log2` takes a number of at least 1, and this can be {ranges[0][0]}", least=1
        )
    if name == "isqrt" and ranges[0][0] < 0:
        raise BadValue(f"`isqrt` takes a number of at least 0, and this can be {ranges[0][0]}")
    if name == "**":
        if ranges[1][0] < 0:
            raise BadValue(
                f"the exponent of `**` must be at least 0, and this can be {ranges[1][0]}"
            )
        if max(abs(ranges[0][0]), abs(ranges[0][1])) > 1 and ranges[1][1] > 64:
            raise NumberTooLarge("the number can be beyond 62 bits")
