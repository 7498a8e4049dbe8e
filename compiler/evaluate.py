"""Evaluating typed expressions at a length: numbers, token sets, and conditions on `i` and `j`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attnloom.compiler import typed
from attnloom.compiler.arithmetic import (
    BadValue,
    DivisionByZero,
    NumberTooLarge,
    apply,
)
from attnloom.compiler.expressions import Expression, number, operation
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.problems import Diagnostic, Place, Problem, diagnostic
from attnloom.compiler.tokens import Stretch, TokenSet


@dataclass(frozen=True, eq=False)
class Unread:
    """A token set that was given for a parameter, as it is written.

    It is read where it is used: `last 1` is the last token, and inside of `blocks` the last block.
    """

    node: typed.Node
    environment: Environment

    def read(self, where: Environment) -> TokenSet:
        """The token set among the positions of an environment.

        Raises:
            Problem: it has no value there.
        """
        variables = {**self.environment.variables, "n": where.length}
        in_blocks = self.environment.in_blocks or where.in_blocks
        here = replace(self.environment, variables=variables, in_blocks=in_blocks, _known={})
        return here.tokens(self.node)


Value = int | Unread
"""The value of a parameter: a number, 0 or 1 for a condition, or a token set to be read."""


@dataclass(frozen=True, eq=False)
class Environment:
    """The values of names: variables, parameters, and token inputs.

    `variables` has `n`, `head`, `heads`, `layer` and `layers`; where one is missing, the expression
    is asked for what is not yet known, which is a problem of its own.
    """

    variables: Mapping[str, int]
    parameters: Mapping[str, Value]
    inputs: Mapping[str, Any]
    in_blocks: bool = False
    _known: dict[int, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return self.variables["n"]

    def number(self, node: typed.Number) -> int:
        """The value of a number, or of a condition as 0 or 1.

        Raises:
            Problem: it has none.
        """
        match node:
            case typed.Constant(value=value):
                return value
            case typed.Variable(name=name):
                if name not in self.variables:
                    raise _unknown(node, name)
                return self.variables[name]
            case typed.Given(name=name):
                if name not in self.parameters:
                    raise _unknown(node, name)
                parameter = self.parameters[name]
                assert isinstance(parameter, int)
                return parameter
            case typed.Count(tokens=tokens):
                if "n" not in self.variables:
                    raise _unknown(node, "count")
                return len(self.tokens(tokens))
            case typed.Operation(name=name, operands=operands):
                return self._operation(node, name, operands)

    def _operation(
        self, node: typed.Operation, name: str, operands: tuple[typed.Number, ...]
    ) -> int:
        if id(node) in self._known:
            return int(self._known[id(node)])
        if name in ("and", "or"):
            # The right side may have no value where the left side decides.
            first = self.number(operands[0])
            decided = first == (name == "or")
            value = first if decided else self.number(operands[1])
        else:
            values = [self.number(operand) for operand in operands]
            try:
                value = apply(name, values)
            except BadValue as error:
                raise _bad_value(node, error, values) from None
        self._known[id(node)] = value
        return value

    def tokens(self, node: typed.Node) -> TokenSet:
        """The value of a token set.

        Raises:
            Problem: a position lies outside of the sequence, or a number has no value.
        """
        if id(node) not in self._known:
            try:
                self._known[id(node)] = self._tokens(node)
            except TooLarge as error:
                raise too_large(node, error) from None
        found = self._known[id(node)]
        assert isinstance(found, TokenSet)
        return found

    def _tokens(self, node: typed.Node) -> TokenSet:
        length = self.length
        match node:
            case typed.Position():
                position = self._position(node)
                return TokenSet.of(length, Stretch(position, position + 1))
            case typed.Progression():
                return self._progression(node)
            case typed.Ends(end=end, count=count):
                many = self.number(count)
                if many < 0:
                    message = f"`{end}` takes a number of at least 0, got {many}"
                    raise too_small(count, many, 0, message)
                start = 0 if end == "first" else max(0, length - many)
                return TokenSet.of(length, Stretch(start, min(length, start + many)))
            case typed.TokenInput(name=name):
                if self.in_blocks:
                    raise _of_tokens(node, name)
                found = self.inputs[name]
                assert isinstance(found, TokenSet)
                return found
            case typed.Given(name=name):
                value = self.parameters[name]
                assert isinstance(value, Unread)
                return value.read(self)
            case typed.Combined(operator=operator, parts=parts):
                sets = [self.tokens(part) for part in parts]
                found = sets[0] if sets else TokenSet.of(length)
                for one in sets[1:]:
                    found = {"|": found.__or__, "&": found.__and__, "-": found.__sub__}[operator](
                        one
                    )
                return found
        raise AssertionError(node)

    def _position(self, node: typed.Position) -> int:
        position = self.number(node.number)
        wrapped = position + self.length if position < 0 and node.from_end else position
        if not 0 <= wrapped < self.length:
            hints = ["a range is clipped: `first 1`, `0..8`"]
            if position < 0 and not node.from_end:
                hints = [f"`last {-position}` counts from the end"]
            raise Problem(
                diagnostic(
                    "position-outside",
                    node.place,
                    f"position {position} is outside of the sequence of {self.length}",
                    f"position {position}" if node.place.text != str(position) else "not there",
                    hints=hints,
                    found=str(position),
                    expected=[f"0..{self.length}"],
                )
            )
        return wrapped

    def _progression(self, node: typed.Progression) -> TokenSet:
        start, step = self.number(node.start), self.number(node.step)
        if node.stop is not None:
            stop = self.number(node.stop)
            return TokenSet.of(self.length, Stretch(start, stop) if start < stop else _NONE)
        if step < 1:
            message = f"`every` takes a step of at least 1, got {step}"
            raise too_small(node.step, step, 1, message)
        if start < 0:
            message = f"`from` takes a position of at least 0, got {start}"
            raise too_small(node.start, start, 0, message)
        if start >= self.length:
            return TokenSet.of(self.length)
        return TokenSet.of(self.length, Stretch(start, self.length, step))

    def numbers(self, node: typed.NumberList, most: int) -> tuple[int, ...]:
        """The numbers of a list.

        Raises:
            Problem: they are more than `most`.
        """
        found: list[int] = []
        for item in node.items:
            if isinstance(item, typed.Progression):
                assert item.stop is not None
                numbers = range(self.number(item.start), self.number(item.stop))
            else:
                value = self.number(item)
                numbers = range(value, value + 1)
            if len(found) + len(numbers) > most:
                raise too_large(node, TooLarge(f"the list has more than {most:,} numbers"))
            found += numbers
        return tuple(found)

    def condition(self, node: typed.Number) -> Expression:
        """A condition on `i` and `j`, checked to have a value for all positions.

        Raises:
            Problem: for some positions it has none.
        """
        found = self._residue(node)
        try:
            found.checked_bounds(self.length)
        except BadValue as error:
            raise _bad_value(_culprit(node, self), error, []) from None
        return found

    def _residue(self, node: typed.Number) -> Expression:
        """What is left of an expression when all but `i` and `j` has become numbers."""
        if isinstance(node, typed.Variable) and node.name in ("i", "j"):
            return Expression(node.name)
        if not isinstance(node, typed.Operation):
            return number(self.number(node))
        if node.name in ("and", "or"):
            return self._joined(node)
        operands = tuple(self._residue(operand) for operand in node.operands)
        try:
            return operation(node.name, operands)
        except BadValue as error:
            raise _bad_value(node, error, [one.value for one in operands]) from None

    def _joined(self, node: typed.Operation) -> Expression:
        """`and` or `or`, without a side that is decided; the right one may then have no value."""
        sides: list[Expression] = []
        for operand in node.operands:
            side = self._residue(operand)
            if side.is_number and bool(side.value) == (node.name == "or"):
                return side
            if not side.is_number:
                sides.append(side)
        if not sides:
            return number(int(node.name == "and"))
        return sides[0] if len(sides) == 1 else Expression(node.name, tuple(sides))


_NONE = Stretch(0, 0)


def _culprit(node: typed.Number, environment: Environment) -> typed.Number:
    """The innermost part of a condition that has no value for some positions."""
    if isinstance(node, typed.Operation):
        for operand in node.operands:
            try:
                environment._residue(operand).checked_bounds(environment.length)
            except BadValue:
                return _culprit(operand, environment)
    return node


def _unknown(node: typed.Node, name: str) -> Problem:
    """A name that has a value only when the pattern is bound."""
    message = f"`{name}` is not known before the pattern is bound"
    return Problem(diagnostic("bad-value", node.place, message, found=name))


def _of_tokens(node: typed.Node, name: str) -> Problem:
    """An input that was given for a parameter, which is used inside of `blocks`."""
    return Problem(
        diagnostic(
            "misplaced-name",
            node.place,
            f"`{name}` is about tokens, and inside of `blocks` positions are blocks",
            "an input of tokens",
            hints=["join it outside of the `blocks { ... }`"],
            found=name,
            expected=["a token set that is written out"],
        )
    )


def _bad_value(node: typed.Node, error: BadValue, values: list[int]) -> Problem:
    """An operation without a value: for the numbers given, or for some positions."""
    if isinstance(error, DivisionByZero):
        slug, expected = "division-by-zero", "a divisor other than 0"
        hint = "`max(1, ...)` as the divisor"
    elif isinstance(error, NumberTooLarge):
        slug, expected = "number-too-large", "a number within 64 bits"
        hint = "a smaller number, such as `2**40`"
    else:
        slug, expected = "bad-value", f"at least {error.least}"
        hint = f"`max({error.least}, ...)` around it"
    label = f"here {', '.join(map(str, values))}" if values else "for some positions"
    return Problem(
        diagnostic(slug, node.place, str(error), label, hints=[hint], expected=[expected])
    )


def too_small(node: typed.Node, value: int, least: int, message: str) -> Problem:
    """A number below the least that makes sense."""
    text = " ".join(node.place.text.split())
    hint = f"`{least}`" if text.lstrip("-").isdigit() else f"`max({least}, {text})`"
    return Problem(
        diagnostic(
            "bad-value",
            node.place,
            message,
            f"this is {value}",
            hints=[hint],
            found=str(value),
            expected=[f"at least {least}"],
        )
    )


def too_large(node: typed.Node, error: TooLarge) -> Problem:
    """A limit that was met while something was evaluated."""
    return Problem(too_much(node.place, str(error)))


def too_much(place: Place, message: str) -> Diagnostic:
    """A limit that was met; see `attnloom.compiler.limits`."""
    return diagnostic(
        "too-much-work",
        place,
        message,
        "too large",
        hints=["a shorter sequence, or fewer pieces; `docs/language.md` lists the limits"],
        expected=["work within the limits"],
    )
