"""Numbers: one value, arrays of them, and ranges, each against Python's own integers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region_model import expressions

from attnloom.compiler.arithmetic import (
    OPERATIONS,
    BadValue,
    DivisionByZero,
    NumberTooLarge,
    apply,
)
from attnloom.compiler.expressions import Expression, number, operation

PYTHON: dict[str, Callable[..., int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: math.floor(a / b) if abs(a) < 2**40 else a // b,
    "%": lambda a, b: a - b * math.floor(a / b),
    "**": lambda a, b: math.prod([a] * b),
    "^": lambda a, b: int.__xor__(a, b),
    "negative": lambda a: 0 - a,
    "abs": lambda a: max(a, 0 - a),
    "log2": lambda a: len(bin(a)) - 3,
    "isqrt": lambda a: max(r for r in range(1100) if r * r <= a),
    "ceil_div": lambda a, b: math.ceil(a / b),
    "min": lambda a, b: a if a < b else b,
    "max": lambda a, b: a if a > b else b,
    "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b),
    ">=": lambda a, b: int(a >= b),
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "and": lambda a, b: int(bool(a) and bool(b)),
    "or": lambda a, b: int(bool(a) or bool(b)),
    "not": lambda a: int(not a),
}


def test_every_operation_has_an_independent_definition_here() -> None:
    assert set(PYTHON) == set(OPERATIONS)


def operands(name: str, most: int) -> st.SearchStrategy[list[int]]:
    """Operands in the domain; a divisor keeps one sign."""
    one = st.integers(0, 1) if OPERATIONS[name].of_conditions else st.integers(-most, most)
    if name in ("log2", "isqrt"):
        return st.tuples(st.integers(1, most)).map(list)
    if name == "**":
        return st.tuples(st.integers(-9, 9), st.integers(0, 6)).map(list)
    if name in ("//", "%", "ceil_div"):
        return st.tuples(one, st.integers(1, most)).map(list)
    return st.lists(one, min_size=OPERATIONS[name].least, max_size=OPERATIONS[name].least)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@settings(deadline=None)
@given(data=st.data())
def test_scalar_and_array_agree_with_python(name: str, data: st.DataObject) -> None:
    values = data.draw(operands(name, 1000))
    if name in ("//", "%", "ceil_div") and data.draw(st.booleans()):
        values[1] = -values[1]
    wanted = PYTHON[name](*values)
    assert apply(name, values) == wanted
    arrays = [np.array([value, value]) for value in values]
    assert OPERATIONS[name].array(*arrays).astype(int).tolist() == [wanted, wanted]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@settings(deadline=None)
@given(data=st.data())
def test_range_holds_every_value(name: str, data: st.DataObject) -> None:
    drawn = [data.draw(operands(name, 40)) for _ in range(4)]
    if name in ("//", "%", "ceil_div") and data.draw(st.booleans()):
        drawn = [[a, -b] for a, b in drawn]
    ranges = [(min(ends), max(ends)) for ends in zip(*drawn, strict=True)]
    wide = [tuple(np.array([end]) for end in one) for one in ranges]
    low, high = (np.broadcast_to(end, 1)[0] for end in OPERATIONS[name].bounds(*wide))
    for values in drawn:
        assert low <= PYTHON[name](*values) <= high


@settings(deadline=None)
@given(st.data())
def test_expression_evaluates_within_its_bounds(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 60))
    expression = data.draw(expressions(n))
    low, high = expression.checked_bounds(n)
    i, j = np.arange(n)[:, None], np.arange(n)
    values = np.broadcast_to(expression.evaluate(i, j), (n, n))
    assert values.min() >= low
    assert values.max() <= high
    first, last = data.draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))
    rows = (min(first, last), max(first, last))
    keys = (n // 3, n - 1)
    tight = expression.bounds(
        (np.array([rows[0]]), np.array([rows[1]])), (np.array([keys[0]]), np.array([keys[1]]))
    )
    within = values[rows[0] : rows[1] + 1, keys[0] : keys[1] + 1]
    assert (np.asarray(tight[0]) <= within.min()).all()
    assert (np.asarray(tight[1]) >= within.max()).all()


@pytest.mark.parametrize("name", ["//", "%", "ceil_div"])
def test_division_by_zero_is_an_error(name: str) -> None:
    with pytest.raises(DivisionByZero):
        apply(name, [1, 0])


@pytest.mark.parametrize(
    ("name", "values"),
    [("+", [2**62, 2**62]), ("*", [2**40, 2**40]), ("**", [2, 64]), ("**", [10, 10**10])],
)
def test_number_beyond_64_bits_is_an_error_at_once(name: str, values: list[int]) -> None:
    with pytest.raises(NumberTooLarge):
        apply(name, values)


@pytest.mark.parametrize(
    ("name", "values"), [("log2", [0]), ("isqrt", [-1]), ("**", [2, -1]), ("log2", [-8])]
)
def test_operand_out_of_the_domain_is_an_error(name: str, values: list[int]) -> None:
    with pytest.raises(BadValue):
        apply(name, values)


def test_largest_numbers_are_exact() -> None:
    assert apply("isqrt", [2**63 - 1]) == 3037000499
    assert apply("log2", [2**63 - 1]) == 62
    big = np.array([2**62 - 1, 2**61, 2**52 + 1])
    assert OPERATIONS["log2"].array(big).tolist() == [61, 61, 52]
    assert OPERATIONS["isqrt"].array(big).tolist() == [math.isqrt(int(b)) for b in big]


def test_expression_that_may_divide_by_zero_is_refused() -> None:
    i, j = Expression("i"), Expression("j")
    with pytest.raises(DivisionByZero):
        operation("%", (i, j)).checked_bounds(8)
    safe = operation("%", (i, operation("+", (j, number(1)))))
    assert safe.checked_bounds(8) == (0, 7)


def test_expression_beyond_62_bits_is_refused() -> None:
    i = Expression("i")
    cube = operation("*", (operation("*", (i, i)), i))
    assert cube.checked_bounds(1 << 20) == (0, ((1 << 20) - 1) ** 3)
    with pytest.raises(NumberTooLarge):
        cube.checked_bounds(1 << 30)
