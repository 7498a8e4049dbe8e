"""From a condition on `i` and `j` to a region: closed forms where there are any.

A comparison is brought to the form "a sum is within a range". Known are the sums of `i`, `j` and
`i - j`, of their quotients and remainders by a number, the differences of two quotients or two
remainders, absolute values, and `i ^ j`. All else stays a condition that is asked tile by tile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnloom.compiler.expressions import Expression, operation
from attnloom.compiler.limits import MAX_PIECES
from attnloom.compiler.regions.bands import FAR, Band, Bands
from attnloom.compiler.regions.base import Nothing, Region
from attnloom.compiler.regions.boxes import Boxes
from attnloom.compiler.regions.condition import Condition
from attnloom.compiler.regions.joining import (
    both,
    either,
    minus,
    square,
    token_columns,
    token_rows,
)
from attnloom.compiler.tokens import Stretch, TokenSet
from attnloom.compiler.zones import Bounds, Zones

Interval = tuple[int, int]
"""Both ends inclusive; `FAR` and `-FAR` stand for none."""

_MOST_XOR_BITS = 6
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def region_of(condition: Expression, length: int) -> Region:
    """The pairs of positions `0..length` for which a condition holds.

    The condition must have passed `Expression.checked_bounds`.

    >>> from attnloom.compiler.expressions import Expression, number
    >>> i, j = Expression("i"), Expression("j")
    >>> region_of(operation("<=", (j, i)), 9)
    Bands(bands=(Band(i1=0, i2=8, j1=0, j2=8, d1=0, d2=8, step=1, phase=0),), block=1)
    """
    return both(_unclipped(condition, length), square(length))


def is_prefix(condition: Expression, length: int) -> bool:
    """Whether every query gets the first so many keys, by the form of the condition.

    >>> from attnloom.compiler.expressions import Expression, number
    >>> i, j = Expression("i"), Expression("j")
    >>> is_prefix(operation("<=", (j, i)), 9), is_prefix(operation("<=", (i, j)), 9)
    (True, False)
    """
    found = _unclipped(condition, length)
    return isinstance(found, Bands) and all(
        band.j1 <= 0 and band.d2 >= FAR and band.step == 1 for band in found.bands
    )


def _unclipped(condition: Expression, length: int) -> Region:
    """The pairs, perhaps with more beyond the positions."""
    if condition.is_number:
        return square(length) if condition.value else Nothing()
    if condition.name == "and":
        return both(*(_unclipped(operand, length) for operand in condition.operands))
    if condition.name == "or":
        return either(*(_unclipped(operand, length) for operand in condition.operands))
    if condition.name == "not":
        (inner,) = condition.operands
        if inner.name in _NEGATED:
            return _unclipped(Expression(_NEGATED[inner.name], inner.operands), length)
        return minus(square(length), _unclipped(inner, length))
    found = _of_comparison(condition, length) if condition.name in _NEGATED else None
    return found if found is not None else Condition.of(condition, length)


@dataclass(frozen=True)
class _Sum:
    """`constant + sum(factor * term)`; the terms are positions or opaque expressions."""

    terms: tuple[tuple[Expression, int], ...]
    constant: int

    def __add__(self, other: _Sum) -> _Sum:
        factors = dict(self.terms)
        for term, factor in other.terms:
            factors[term] = factors.get(term, 0) + factor
        terms = tuple((term, factor) for term, factor in factors.items() if factor)
        return _Sum(terms, self.constant + other.constant)

    def times(self, factor: int) -> _Sum:
        if not factor:
            return _Sum((), 0)
        terms = tuple((term, factor * one) for term, one in self.terms)
        return _Sum(terms, self.constant * factor)


def _sum(expression: Expression) -> _Sum:
    operands = expression.operands
    match expression.name:
        case "number":
            return _Sum((), expression.value)
        case "+":
            return _sum(operands[0]) + _sum(operands[1])
        case "-":
            return _sum(operands[0]) + _sum(operands[1]).times(-1)
        case "negative":
            return _sum(operands[0]).times(-1)
        case "*" if operands[0].is_number:
            return _sum(operands[1]).times(operands[0].value)
        case "*" if operands[1].is_number:
            return _sum(operands[0]).times(operands[1].value)
    return _Sum(((expression, 1),), 0)


def _of_comparison(comparison: Expression, length: int) -> Region | None:
    left, right = (_sum(operand) for operand in comparison.operands)
    difference = left + right.times(-1)
    factor = _common_factor([one for _, one in difference.terms])
    if factor == 0:
        value = operation(
            comparison.name, (Expression("number", (), difference.constant), _ZERO)
        ).value
        return square(length) if value else Nothing()
    terms = {term: one // factor for term, one in difference.terms}
    intervals = _solved(comparison.name, factor, difference.constant)
    parts = [_within(terms, interval, length) for interval in intervals]
    known = [part for part in parts if part is not None]
    return either(*known) if len(known) == len(parts) else None


_ZERO = Expression("number", (), 0)


def _common_factor(factors: list[int]) -> int:
    """The largest number that divides all factors, with the sign of the first one."""
    from math import gcd

    found = gcd(*factors)
    return -found if factors and factors[0] < 0 else found


def _solved(comparison: str, factor: int, constant: int) -> list[Interval]:
    """The `t` for which `factor * t + constant` compares so with 0."""
    if factor < 0:
        turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
        comparison, factor, constant = turned.get(comparison, comparison), -factor, -constant
    floor, ceiling = -constant // factor, -(constant // factor)
    match comparison:
        case "<=":
            return [(-FAR, floor)]
        case "<":
            return [(-FAR, ceiling - 1)]
        case ">=":
            return [(ceiling, FAR)]
        case ">":
            return [(floor + 1, FAR)]
        case "==":
            return [(floor, floor)] if floor == ceiling else []
        case _:
            return [(-FAR, floor - 1), (floor + 1, FAR)] if floor == ceiling else [(-FAR, FAR)]


_I, _J = Expression("i"), Expression("j")


def _within(terms: dict[Expression, int], interval: Interval, length: int) -> Region | None:
    """The pairs for which a sum of terms is within an interval, if a form of it is known."""
    low, high = interval
    if low > high:
        return Nothing()
    axis = _axis(terms)
    if axis is not None:
        return _axis_within(axis, low, high)
    if len(terms) == 1:
        ((term, factor),) = terms.items()
        return _term_within(term, low, high, length) if factor == 1 else None
    if len(terms) == 2:
        (first, one), (second, other) = terms.items()
        if (one, other) == (1, -1):
            return _difference_within(first, second, low, high, length)
    return None


def _axis(terms: dict[Expression, int]) -> str | None:
    """`i`, `j`, `i-j` or `j-i` when that is what the sum is."""
    factors = (terms.get(_I, 0), terms.get(_J, 0))
    if len(terms) != sum(map(bool, factors)):
        return None
    return {(1, 0): "i", (0, 1): "j", (1, -1): "i-j", (-1, 1): "j-i"}.get(factors)


def _axis_within(axis: str, low: int, high: int) -> Region:
    match axis:
        case "i":
            return Bands.of(Band(i1=low, i2=high))
        case "j":
            return Bands.of(Band(j1=low, j2=high))
        case "i-j":
            return Bands.of(Band(d1=low, d2=high))
        case _:
            return Bands.of(Band(d1=-high, d2=-low))


def _term_within(term: Expression, low: int, high: int, length: int) -> Region | None:
    operands = term.operands
    match term.name:
        case "//" | "%" if operands[1].is_number and operands[1].value > 0:
            inner, size = _sum(operands[0]), operands[1].value
            axis = _axis(dict(inner.terms))
            if axis is None:
                return None
            if term.name == "//":
                least = low * size - inner.constant if low > -FAR else -FAR
                most = high * size + size - 1 - inner.constant if high < FAR else FAR
                return _axis_within(axis, least, most)
            return _residue_within(axis, inner.constant, size, low, high, length)
        case "abs":
            inner = _sum(operands[0])
            halves = [(max(low, 0), high), (-high, -max(low, 1))]
            if not inner.terms:
                return None
            factor = inner.terms[0][1]
            if any(abs(one) != 1 for _, one in inner.terms):
                return None
            terms = {one: sign * factor for one, sign in inner.terms}
            shift = inner.constant * factor
            parts = [_within(terms, (a - shift, b - shift), length) for a, b in halves]
            known = [part for part in parts if part is not None]
            return either(*known) if len(known) == len(parts) else None
        case "^" if low == high and set(operands) == {_I, _J}:
            return _xor(low, length)
    return None


def _residue_within(
    axis: str, shift: int, size: int, low: int, high: int, length: int
) -> Region | None:
    """`(axis + shift) % size` within `low..high`."""
    low, high = max(low, 0), min(high, size - 1)
    if low > high:
        return Nothing()
    width = high - low + 1
    if width == size:
        return square(length)
    if axis in ("i", "j"):
        first = (low - shift) % size
        stretches = [Stretch(first, length, size, width)]
        if first + width > size:
            stretches.append(Stretch(0, min(length, first + width - size)))
        tokens = TokenSet.of(length, *stretches)
        return token_rows(tokens) if axis == "i" else token_columns(tokens)
    if width > MAX_PIECES:
        return None
    sign = 1 if axis == "i-j" else -1
    residues = (sign * (residue - shift) % size for residue in range(low, high + 1))
    return _diagonals(size, residues, length)


def _difference_within(
    first: Expression, second: Expression, low: int, high: int, length: int
) -> Region | None:
    """The difference of two quotients, or remainders, of `i` and `j` by the same number."""
    if first.name != second.name or first.name not in ("//", "%"):
        return None
    divisor = first.operands[1]
    if divisor != second.operands[1] or not divisor.is_number or divisor.value <= 0:
        return None
    size = divisor.value
    inner = [_sum(term.operands[0]) for term in (first, second)]
    axes = [_axis(dict(one.terms)) for one in inner]
    shifts = [one.constant for one in inner]
    if axes == ["j", "i"]:
        low, high, shifts = -high, -low, shifts[::-1]
    elif axes != ["i", "j"]:
        return None
    if first.name == "//":
        if any(shift % size for shift in shifts):
            return None
        apart = (shifts[0] - shifts[1]) // size
        limits = (_minus(low, apart), _minus(high, apart))
        if size == 1:
            return Bands.of(Band(d1=limits[0], d2=limits[1]))
        return Boxes(Zones.chunks(0, length, size, d=limits))
    if size == 1:
        return square(length) if low <= 0 <= high else Nothing()
    if low == high == 0:
        return _diagonals(size, [(shifts[1] - shifts[0]) % size], length)
    if any(shift % size for shift in shifts):
        return None
    residues = Bounds(d=(max(low, -size), min(high, size)))
    return Boxes(Zones.digits(0, length, (1, size), [residues, Bounds()]))


def _diagonals(step: int, phases: Iterable[int], length: int) -> Bands:
    """Every `step`-th diagonal from each of some; clipped, so that rows have a number of pieces."""
    last = length - 1
    return Bands.of(
        *(Band(i1=0, i2=last, j1=0, j2=last, step=step, phase=phase) for phase in phases)
    )


def _minus(end: int, by: int) -> int:
    return end if abs(end) >= FAR else end - by


def _xor(value: int, length: int) -> Region | None:
    """`i ^ j == value`: the digits of base 2 are equal where the value has a 0, else different."""
    if value < 0:
        return Nothing()
    bits = [at for at in range(value.bit_length()) if value >> at & 1]
    if len(bits) > _MOST_XOR_BITS:
        return None
    if not bits:
        return Bands.of(Band(d1=0, d2=0))
    return Boxes(_xor_zones(bits, length))


def _xor_zones(bits: list[int], length: int) -> Zones:
    places = sorted({1} | {1 << at for at in bits} | {1 << at + 1 for at in bits})
    found = Zones.empty(0, length)
    for choice in range(1 << len(bits)):
        digits = [Bounds(d=(0, 0)) for _ in places]
        for number, at in enumerate(bits):
            one = choice >> number & 1
            digits[places.index(1 << at)] = Bounds(i=(one, one), j=(1 - one, 1 - one))
        found = found | Zones.digits(0, length, tuple(places), digits)
    return found
