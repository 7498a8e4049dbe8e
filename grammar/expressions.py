"""From expressions to text with the fewest parentheses that keep the tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum

from attnloom.grammar.pretty import Break, Doc, Group, Nest
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


def chain_of(last: Binary) -> list[Binary]:
    """The operators of one level that associate to the left, from the last one to the first.

    Each is the left operand of the one before. In `1 - 2 + 3` that is `+`, then `-`.
    """
    chain = [last]
    level = BINARY[last.operator]
    left = last.left
    while level is not Level.POWER and isinstance(left, Binary) and BINARY[left.operator] is level:
        chain.append(left)
        left = left.left
    return chain


class ExpressionPrinter(ABC):
    """Prints expressions; documents are made in the order of the text."""

    @abstractmethod
    def body(self, statements: Sequence[Statement], after: int) -> Doc:
        """Statements in braces; `after` is an offset before the opening one in the source."""

    def number(self, number: Number) -> str:
        return str(number.value)

    def keeps_parentheses(self, operand: Expr) -> bool:
        """Whether the author's parentheses around an operand stay although none are needed."""
        return False

    def expr(self, expr: Expr, at_least: Level = Level.OR) -> Doc:
        """The document of an expression, in parentheses if it is looser than `at_least`."""
        inner = self._bare(expr)
        return in_parentheses(inner) if self._has_parentheses(expr, at_least) else inner

    def _has_parentheses(self, expr: Expr, at_least: Level) -> bool:
        if level_of(expr) < at_least:
            return True
        return at_least > Level.OR and self.keeps_parentheses(expr)

    def arguments(self, arguments: Sequence[Argument]) -> Doc:
        parts = [
            (f"{one.name}=" if one.name is not None else "", self.expr(one.value))
            for one in arguments
        ]
        return bracketed("(", parts, ")")

    def starts_with_minus(self, expr: Expr) -> bool:
        """Whether the text of an expression begins with `-`."""
        at_least = Level.OR
        while not self._has_parentheses(expr, at_least):
            match expr:
                case Unary(operator="-"):
                    return True
                case Number(value=value):
                    return value < 0
                case Binary(left=left) if self.keeps_parentheses(left):
                    return False
                case Binary(operator=operator, left=left):
                    at_least = Level.ATOM if operator == "**" else BINARY[operator]
                    expr = left
                case Compare(operands=operands):
                    at_least, expr = Level.UNION, operands[0]
                case Interval(start=start):
                    at_least, expr = Level.SUM, start
                case _:
                    return False
        return False

    def _bare(self, expr: Expr) -> Doc:
        match expr:
            case Number():
                return self.number(expr)
            case Boolean(value=value):
                return "true" if value else "false"
            case Name(name=name):
                return name
            case Call():
                return self._call(expr)
            case Unary(operator="not", operand=operand):
                return ("not ", self.expr(operand, Level.NOT))
            case Unary(operator=operator, operand=operand):
                return (operator, self.expr(operand, Level.SIGN))
            case Binary(operator="**", left=left, right=right):
                return (self.expr(left, Level.ATOM), " ** ", self.expr(right, Level.SIGN))
            case Binary():
                return self._chain(expr)
            case Compare(operators=operators, operands=operands):
                return self._series(operators, operands, Level.UNION)
            case Interval(start=start, stop=stop):
                return (self.expr(start, Level.SUM), "..", self.expr(stop, Level.SUM))
            case Ends(end=end, count=count):
                return (f"{end} ", self.expr(count, Level.SUM))
            case Every(step=step, start=None):
                return ("every ", self.expr(step, Level.SUM))
            case Every(step=step, start=start):
                assert start is not None
                return ("every ", self.expr(step, Level.SUM), " from ", self.expr(start, Level.SUM))
            case Listing(items=items):
                return bracketed("[", [self.expr(item) for item in items], "]", fill=True)

    def _call(self, call: Call) -> Doc:
        head = (call.name, self.arguments(call.arguments))
        if call.body is None:
            return head
        last = call.arguments[-1].span if call.arguments else call.name_span
        return (*head, " ", self.body(call.body, last.stop))

    def _chain(self, expr: Binary) -> Doc:
        """Operators of one level associate to the left: one series, which breaks as a whole."""
        chain = chain_of(expr)
        kept = (at for at, link in enumerate(chain) if at and self.keeps_parentheses(link))
        chain = chain[: next(kept, None)][::-1]
        operands = [chain[0].left, *(link.right for link in chain)]
        level = Level(BINARY[expr.operator] + 1)
        return self._series([link.operator for link in chain], operands, level)

    def _series(self, operators: Sequence[str], operands: Sequence[Expr], level: Level) -> Doc:
        first, *others = (self.expr(operand, level) for operand in operands)
        pairs = zip(operators, others, strict=True)
        tail = tuple((Break(), f"{operator} ", operand) for operator, operand in pairs)
        return Group((first, Nest(tail)))


def in_parentheses(doc: Doc) -> Doc:
    return Group(("(", Nest((Break(""), doc)), Break(""), ")"))


def bracketed(opening: str, parts: Sequence[Doc], closing: str, *, fill: bool = False) -> Doc:
    """Parts between brackets: one a line where they do not fit, or (`fill`) as many as fit."""
    if not parts:
        return opening + closing
    inner: list[Doc] = [parts[0]]
    for part in parts[1:]:
        inner.append(",")
        inner.append(Group((Break(), part)) if fill else (Break(), part))
    return Group((opening, Nest((Break(""), *inner)), Break(""), closing))


def has_bare_body(expr: Expr) -> bool:
    """Whether a call with a body may stand outside all brackets in the text of an expression."""
    todo = [expr]
    while todo:
        match todo.pop():
            case Call(body=body):
                if body is not None:
                    return True
            case Unary(operand=operand) | Ends(count=operand):
                todo.append(operand)
            case Binary(left=first, right=second) | Interval(start=first, stop=second):
                todo += (first, second)
            case Compare(operands=operands):
                todo += operands
            case Every(step=step, start=start):
                todo += (step,) if start is None else (step, start)
            case _:
                pass
    return False
