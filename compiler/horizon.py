"""Lengths that decide: beyond them a pattern does nothing that it has not done before.

Many patterns ask of a query `i`, a key `j` and a length `n` only whether differences between two
of `0`, `i`, `j` and `n` are at most some constants, and what remainders they leave by a modulus.
Let two such patterns differ somewhere. With the remainders fixed, all is divided by the modulus,
and the pairs where they differ are a union of solutions of inequalities `x - y <= c` between four
numbers. In the least solution of such a system every number is minus a sum of at most three of the
constants (a shortest path visits no number twice). So there is a difference at a length that such
a sum gives, times the modulus, plus a remainder: finitely many lengths, and looking at each proves
or refutes that the patterns are the same at all lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from attnloom.compiler import typed
from attnloom.compiler.evaluate import Environment
from attnloom.compiler.problems import Problem

MOST_LENGTHS = 3000
"""Lengths that are looked at; more are not tried."""

_MOST_SUMS = 4_000_000
_MOST_CELLS = 512


class Unbounded(Exception):
    """A pattern asks for more than differences and remainders; the message says by what."""


@dataclass(frozen=True)
class Horizon:
    """What a pattern asks: the constants that differences are compared with, and the modulus.

    The constants are those of the text; what is asked may be off by up to `slack` from them.
    """

    constants: frozenset[int] = frozenset()
    modulus: int = 1
    slack: int = 0

    @classmethod
    def at(cls, *constants: int, modulus: int = 1, slack: int = 0) -> Horizon:
        """Comparisons of differences with some constants, from either side."""
        near = {sign * one + more for one in constants for sign in (1, -1) for more in (-1, 0, 1)}
        return cls(frozenset(near), modulus, slack)

    def __or__(self, other: Horizon) -> Horizon:
        return Horizon(
            self.constants | other.constants,
            math.lcm(self.modulus, other.modulus),
            max(self.slack, other.slack),
        )

    def in_blocks(self, size: int) -> Horizon:
        """The same asked of blocks of so many tokens."""
        return Horizon(
            frozenset(size * one for one in self.constants),
            size * self.modulus,
            size * self.slack + 2 * size,
        )

    def lengths(self) -> list[int] | None:
        """The lengths that decide, ascending; `None` if they are too many.

        >>> Horizon.at(1).lengths()
        [1, 2, 3, 4, 5, 6, 7, 8, 9]
        """
        off = self.slack + self.modulus - 1
        found = {
            quotient
            for one in self.constants | {-1, 0, 1}
            for quotient in range((one - off) // self.modulus, (one + off) // self.modulus + 1)
        }
        weights = found | {-one - 1 for one in found}
        if len(weights) > 2 * MOST_LENGTHS:
            return None
        sums = {0}
        for _ in range(3):
            if len(sums) * len(weights) > _MOST_SUMS:
                return None
            sums |= {a + b for a in sums for b in weights}
        starts = [self.modulus * -one for one in sums if one <= 0]
        if len(starts) * self.modulus > 16 * MOST_LENGTHS:
            return None
        chosen = sorted({n for start in starts for n in range(start, start + self.modulus) if n})
        return chosen if len(chosen) <= MOST_LENGTHS else None


@dataclass(frozen=True)
class _Linear:
    """`n * times + more`."""

    times: int
    more: int


@dataclass(frozen=True, eq=False)
class _Names:
    """The values of names: numbers that may depend on `n`, and token sets with their own names."""

    variables: Mapping[str, int]
    numbers: dict[str, _Linear] = field(default_factory=dict)
    tokens: dict[str, tuple[typed.Node, _Names]] = field(default_factory=dict)


def horizon(pattern: typed.Pattern, head: int, heads: int, layer: int, layers: int) -> Horizon:
    """What a pattern asks, for a head of a layer.

    Raises:
        Unbounded: it asks for something else, too.
    """
    variables = {"head": head, "heads": heads, "layer": layer, "layers": layers}
    names = _named(pattern, {}, _Names(variables), _Names(variables))
    found = _body(pattern.body, names) | Horizon.at(0, 1)
    for slots in _memory(pattern.body):
        found |= Horizon.at(_constant(slots, names))
    return found


def _memory(body: typed.Body) -> Iterable[typed.Number]:
    for one in body.memory:
        yield one.slots
    for choice in body.choices:
        yield from _memory(choice.then)
        if choice.otherwise is not None:
            yield from _memory(choice.otherwise)


def _named(
    pattern: typed.Pattern, given: Mapping[str, typed.Node], outer: _Names, inner: _Names
) -> _Names:
    """The names inside of a pattern: arguments from outside, and defaults."""
    for one in pattern.parameters:
        node, names = (given[one.name], outer) if one.name in given else (one.default, inner)
        assert node is not None
        if one.type is typed.Type.TOKENS:
            inner.tokens[one.name] = (node, names)
            continue
        try:
            inner.numbers[one.name] = _linear(node, names)
        except Unbounded:
            continue  # which counts only where it is used
    return inner


# --- numbers -------------------------------------------------------------------------------------


def _linear(node: typed.Node, names: _Names) -> _Linear:
    """A number as a multiple of `n` and a constant.

    Raises:
        Unbounded: it is not one.
    """
    match node:
        case typed.Constant(value=value):
            return _Linear(0, value)
        case typed.Variable(name="n"):
            return _Linear(1, 0)
        case typed.Variable(name=name) if name in names.variables:
            return _Linear(0, names.variables[name])
        case typed.Given(name=name) if name in names.numbers:
            return names.numbers[name]
        case typed.Operation(name=name, operands=operands):
            parts = [_linear(one, names) for one in operands]
            if all(not one.times for one in parts):
                return _Linear(0, _applied(node, [one.more for one in parts]))
            if name == "+":
                return _Linear(sum(one.times for one in parts), sum(one.more for one in parts))
            if name == "-":
                return _Linear(parts[0].times - parts[1].times, parts[0].more - parts[1].more)
            if name == "negative":
                return _Linear(-parts[0].times, -parts[0].more)
    raise Unbounded(_words(node))


def _applied(node: typed.Operation, values: list[int]) -> int:
    constants = tuple(typed.Constant(node.place, value) for value in values)
    try:
        return Environment({}, {}, {}).number(_with_operands(node, constants))
    except Problem:
        raise Unbounded(_words(node)) from None


def _with_operands(node: typed.Operation, operands: tuple[typed.Constant, ...]) -> typed.Operation:
    return typed.Operation(node.place, node.name, operands)


def _constant(node: typed.Node, names: _Names) -> int:
    found = _linear(node, names)
    if found.times:
        raise Unbounded(_words(node))
    return found.more


def _bound(node: typed.Node, names: _Names) -> int:
    """The constant in `c`, `n + c` or `n - c`."""
    found = _linear(node, names)
    if found.times not in (0, 1):
        raise Unbounded(_words(node))
    return found.more


# --- relations -----------------------------------------------------------------------------------


def _body(body: typed.Body, names: _Names) -> Horizon:
    found = Horizon()
    for node in (*body.adds, *body.onlys, *body.nevers):
        found |= _relation(node, names)
    for choice in body.choices:
        found |= _condition(choice.condition, names)
        found |= _body(choice.then, names)
        if choice.otherwise is not None:
            found |= _body(choice.otherwise, names)
    return found


def _relation(node: typed.Node, names: _Names) -> Horizon:
    match node:
        case typed.Call():
            return _call(node, names)
        case typed.InBlocks(block_size=size, body=body):
            return _body(body, names).in_blocks(max(1, _constant(size, names)))
        case typed.InGrid(shape=shape, body=body):
            cells = math.prod(_constant(one, names) for one in shape)
            if cells > _MOST_CELLS:
                raise Unbounded(f"a grid of {cells:,} cells")
            return _body(body, names) | Horizon.at(*range(cells + 1))
        case typed.PatternCall(pattern=pattern, arguments=arguments):
            inner = _named(pattern, arguments, names, _Names(names.variables))
            return _body(pattern.body, inner)
        case typed.Combined(parts=parts):
            found = Horizon()
            for part in parts:
                found |= _relation(part, names)
            return found
        case typed.Inverted(part=part) | typed.Transposed(part=part):
            return _relation(part, names)
    raise AssertionError(node)


def _call(node: typed.Call, names: _Names) -> Horizon:
    arguments = node.arguments
    number = {
        name: _constant(one, names)
        for name, one in arguments.items()
        if node.primitive.name in ("window", "stride", "chunks", "neighborhood")
    }
    match node.primitive.name:
        case "full" | "none" | "row" | "column" | "near" | "tile":
            return Horizon()  # those of cells are within the grid
        case "self" | "causal":
            return Horizon.at(0)
        case "global" | "broadcast" | "collect":
            return _tokens(arguments["tokens"], names)
        case "window" if not number.get("wrap"):
            step = max(1, number.get("dilation", 1))
            reaches = [number[name] for name in ("each_side", "left", "right") if name in number]
            reaches += [number["last"] - 1] if "last" in number else []
            reaches += [number["width"] // 2] if "width" in number else []
            return Horizon.at(0, *(step * one for one in reaches), modulus=step)
        case "stride":
            return Horizon(modulus=max(1, number["step"]))
        case "chunks":
            size = max(1, number["size"])
            return Horizon.at(0, modulus=size, slack=size)
        case "neighborhood" if node.primitive.in_grid:
            return Horizon()
        case "neighborhood":
            step, group = (max(1, number.get(one, 1)) for one in ("dilation", "stride"))
            most = step * (number["keys"] + group)
            if most > MOST_LENGTHS:
                raise Unbounded(_words(node))
            return Horizon.at(*range(most + 1), modulus=step * group)
        case "offsets" if "distances" in arguments:
            listed = arguments["distances"]
            assert isinstance(listed, typed.NumberList)
            return Horizon.at(*_numbers(listed, names))
        case "where":
            return _condition(arguments["condition"], names)
    raise Unbounded(_words(node))


def _numbers(node: typed.NumberList, names: _Names) -> Iterable[int]:
    for item in node.items:
        if not isinstance(item, typed.Progression):
            yield _constant(item, names)
            continue
        assert item.stop is not None
        found = range(_constant(item.start, names), _constant(item.stop, names))
        if len(found) > MOST_LENGTHS:
            raise Unbounded(_words(node))
        yield from found


def _tokens(node: typed.Node, names: _Names) -> Horizon:
    match node:
        case typed.Given(name=name):
            given, where = names.tokens[name]
            return _tokens(given, where)
        case typed.Position(number=number):
            return Horizon.at(_bound(number, names))
        case typed.Ends(count=count):
            return Horizon.at(_constant(count, names))
        case typed.Progression(start=start, stop=stop, step=step):
            found = Horizon.at(_bound(start, names), modulus=max(1, _constant(step, names)))
            if found.modulus > 1 and _linear(start, names).times:
                raise Unbounded(_words(node))
            return found if stop is None else found | Horizon.at(_bound(stop, names))
        case typed.Combined(parts=parts):
            found = Horizon()
            for part in parts:
                found |= _tokens(part, names)
            return found
    raise Unbounded(_words(node))


# --- conditions ----------------------------------------------------------------------------------

Sum = dict[str, int]
"""How often `i`, `j` and `n` are counted, and the constant by the name ``""``."""


def _condition(node: typed.Node, names: _Names) -> Horizon:
    try:
        _constant(node, names)
        return Horizon()
    except Unbounded:
        pass
    if not isinstance(node, typed.Operation):
        raise Unbounded(_words(node))
    if node.name in ("and", "or", "not"):
        found = Horizon()
        for one in node.operands:
            found |= _condition(one, names)
        return found
    if node.name in ("<", "<=", ">", ">=", "==", "!="):
        left, right = node.operands
        return _comparison(left, right, names)
    raise Unbounded(_words(node))


def _comparison(left: typed.Number, right: typed.Number, names: _Names) -> Horizon:
    """A difference, a distance or a remainder against a constant; quotients by one number."""
    for one, other in ((left, right), (right, left)):
        match one:
            case typed.Operation(name="abs", operands=(part,)):
                constant = _constant(other, names)
                by = _divisor(part)
                if by is not None:
                    return _quotients(_sum_of_quotients(part, by, names), constant, by, names)
                return _difference(_sum(part, names), constant)
            case typed.Operation(name="%", operands=(part, by)):
                return _remainder(part, by, names) | _simple_remainder(other, names)
    by = _divisor(left) or _divisor(right)
    if by is not None:
        sides = (_sum_of_quotients(one, by, names) for one in (left, right))
        return _quotients(_minus(*sides), 0, by, names)
    return _difference(_minus(_sum(left, names), _sum(right, names)), 0)


def _divisor(node: typed.Node) -> typed.Node | None:
    """By what the first quotient in a sum divides."""
    match node:
        case typed.Operation(name="//", operands=(_, by)):
            return by
        case typed.Operation(name="+" | "-", operands=(a, b)):
            return _divisor(a) or _divisor(b)
    return None


def _simple_remainder(node: typed.Node, names: _Names) -> Horizon:
    """A constant, or another remainder."""
    if isinstance(node, typed.Operation) and node.name == "%":
        return _remainder(node.operands[0], node.operands[1], names)
    _constant(node, names)
    return Horizon()


def _remainder(part: typed.Node, by: typed.Node, names: _Names) -> Horizon:
    _sum(part, names)  # any sum has a remainder that those of its parts decide
    divisor = abs(_constant(by, names))
    if not divisor:
        raise Unbounded(_words(by))
    return Horizon(modulus=divisor)


def _quotients(found: Sum, constant: int, by: typed.Node, names: _Names) -> Horizon:
    """A difference of quotients against a constant."""
    size = _constant(by, names)
    if size < 1 or not _is_difference(found):
        raise Unbounded(_words(by))
    constants = (size * (constant - found[""]), size * (constant + found[""]))
    return Horizon.at(*constants, modulus=size, slack=2 * size)


def _sum_of_quotients(node: typed.Node, by: typed.Node, names: _Names) -> Sum:
    """A sum of quotients by one number, each of a variable alone: those variables."""
    match node:
        case typed.Operation(name="//", operands=(part, divisor)):
            found = _sum(part, names)
            alone = not found[""] and sorted(found.values()) == [0, 0, 0, 1]
            if not alone or _constant(divisor, names) != _constant(by, names):
                raise Unbounded(_words(node))
            return found
        case typed.Operation(name="+" | "-", operands=(a, b)):
            left, right = (_sum_of_quotients(one, by, names) for one in (a, b))
            if node.name == "+":
                right = {name: -value for name, value in right.items()}
            return _minus(left, right)
    return {"i": 0, "j": 0, "n": 0, "": _constant(node, names)}


def _difference(found: Sum, constant: int) -> Horizon:
    """A difference of two of 0, `i`, `j` and `n` against a constant."""
    if not _is_difference(found):
        raise Unbounded("a sum that is no difference of two positions")
    return Horizon.at(constant - found[""], constant + found[""], constant, found[""])


def _is_difference(found: Sum) -> bool:
    counts = sorted(found[name] for name in ("i", "j", "n"))
    return counts in ([0, 0, 0], [0, 0, 1], [-1, 0, 0], [-1, 0, 1])


def _minus(a: Sum, b: Sum) -> Sum:
    return {name: a[name] - b[name] for name in a}


def _sum(node: typed.Node, names: _Names) -> Sum:
    """A number as a sum of `i`, `j`, `n` and a constant."""
    nothing = {"i": 0, "j": 0, "n": 0, "": 0}
    match node:
        case typed.Variable(name="i" | "j" as name):
            return {**nothing, name: 1}
        case typed.Operation(name="+" | "-", operands=(a, b)):
            left, right = _sum(a, names), _sum(b, names)
            if node.name == "+":
                right = {name: -value for name, value in right.items()}
            return _minus(left, right)
        case typed.Operation(name="negative", operands=(a,)):
            return _minus(nothing, _sum(a, names))
        case typed.Operation(name="*", operands=(a, b)):
            for one, other in ((a, b), (b, a)):
                try:
                    times = _constant(one, names)
                except Unbounded:
                    continue
                return {name: times * value for name, value in _sum(other, names).items()}
    found = _linear(node, names)
    return {**nothing, "n": found.times, "": found.more}


def _words(node: typed.Node) -> str:
    text = " ".join(node.place.text.split())
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


__all__ = ["MOST_LENGTHS", "Horizon", "Unbounded", "horizon"]
