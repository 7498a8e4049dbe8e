"""From expressions to text with the fewest parentheses that keep the tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum

from attnloom.grammar.pretty import Break, Doc, Group, Nest, layout
from attnloom.grammar.syntax import (
    Argument,
    Binary,
    Boolean,
    Call,
    Compare,
    Ends,
    Every,
    Expr,
    Interval,
    Listing,
    Name,
    Number,
    Statement,
    Unary,
)

Body = Callable[[Sequence[Statement], Call], Doc]
Spelling = Callable[[Number], str]


class Level(IntEnum):
    """How tightly an expression holds together; the grammar's rules in the same order."""

    OR = 1
    AND = 2
    NOT = 3
    COMPARISON = 4
    UNION = 5
    EXCLUSION = 6
    INTERSECTION = 7
    RANGE = 8
    SUM = 9
    PRODUCT = 10
    SIGN = 11
    POWER = 12
    ATOM = 13


BINARY = {
    "or": Level.OR,
    "and": Level.AND,
    "|": Level.UNION,
    "^": Level.EXCLUSION,
    "&": Level.INTERSECTION,
    "+": Level.SUM,
    "-": Level.SUM,
    "*": Level.PRODUCT,
    "//": Level.PRODUCT,
    "%": Level.PRODUCT,
    "**": Level.POWER,
}
UNARY = {"not": Level.NOT, "-": Level.SIGN, "~": Level.SIGN}


def level_of(expr: Expr) -> Level:
    """The level at which an expression stands without parentheses."""
    match expr:
        case Binary(operator=operator):
            return BINARY[operator]
        case Unary(operator=operator):
            return UNARY[operator]
        case Compare():
            return Level.COMPARISON
        case Interval() | Ends() | Every():
            return Level.RANGE
        case Number(value=value) if value < 0:
            return Level.SIGN
        case _:
            return Level.ATOM


class ExpressionPrinter:
    """Prints expressions; how a call's body and a number look is the caller's choice."""

    def __init__(self, body: Body, spelling: Spelling) -> None:
        self._body = body
        self._spelling = spelling

    def doc(self, expr: Expr, at_least: Level = Level.OR) -> Doc:
        """The document of an expression, in parentheses if it is looser than `at_least`."""
        inner = self._bare(expr)
        if level_of(expr) >= at_least:
            return inner
        return Group(("(", Nest((Break(""), inner)), Break(""), ")"))

    def arguments(self, arguments: Sequence[Argument]) -> Doc:
        parts = [
            (f"{one.name}=" if one.name is not None else "", self.doc(one.value))
            for one in arguments
        ]
        return _bracketed("(", parts, ")", fill=False)

    def _bare(self, expr: Expr) -> Doc:
        match expr:
            case Number():
                return self._spelling(expr)
            case Boolean(value=value):
                return "true" if value else "false"
            case Name(name=name):
                return name
            case Call(name=name, arguments=arguments, body=body):
                head = (name, self.arguments(arguments))
                return head if body is None else (*head, " ", self._body(body, expr))
            case Unary(operator="not", operand=operand):
                return ("not ", self.doc(operand, Level.NOT))
            case Unary(operator=operator, operand=operand):
                return (operator, self.doc(operand, Level.SIGN))
            case Binary():
                return self._chain(expr)
            case Compare(operators=operators, operands=operands):
                tail = [
                    (Break(), f"{operator} ", self.doc(operand, Level.UNION))
                    for operator, operand in zip(operators, operands[1:], strict=True)
                ]
                return Group((self.doc(operands[0], Level.UNION), Nest(tuple(tail))))
            case Interval(start=start, stop=stop):
                return (self.doc(start, Level.SUM), "..", self.doc(stop, Level.SUM))
            case Ends(end=end, count=count):
                return (f"{end} ", self.doc(count, Level.SUM))
            case Every(step=step, start=None):
                return ("every ", self.doc(step, Level.SUM))
            case Every(step=step, start=start):
                assert start is not None
                return ("every ", self.doc(step, Level.SUM), " from ", self.doc(start, Level.SUM))
            case Listing(items=items):
                return _bracketed("[", [self.doc(item) for item in items], "]", fill=True)

    def _chain(self, expr: Binary) -> Doc:
        """Operators of one level that associate to the left, flattened: they break together."""
        level = BINARY[expr.operator]
        if level is Level.POWER:
            left, right = self.doc(expr.left, Level.ATOM), self.doc(expr.right, Level.SIGN)
            return (left, " ** ", right)
        tail: list[Doc] = []
        left_most: Expr = expr
        while isinstance(left_most, Binary) and BINARY[left_most.operator] is level:
            right = self.doc(left_most.right, Level(level + 1))
            tail.append((Break(), f"{left_most.operator} ", right))
            left_most = left_most.left
        return Group((self.doc(left_most, Level(level + 1)), Nest(tuple(reversed(tail)))))


def _bracketed(opening: str, parts: Sequence[Doc], closing: str, *, fill: bool) -> Doc:
    """Parts between brackets: one a line where they do not fit, or (`fill`) as many as fit."""
    if not parts:
        return opening + closing
    inner: list[Doc] = [parts[0]]
    for part in parts[1:]:
        inner.append(",")
        inner.append(Group((Break(), part)) if fill else (Break(), part))
    return Group((opening, Nest((Break(""), *inner)), Break(""), closing))


def plain_number(number: Number) -> str:
    return str(number.value)


def one_line(doc: Doc) -> str:
    """The text of a document that is never broken."""
    return layout(Group(doc), width=10**9)
