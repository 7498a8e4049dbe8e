"""From the syntax tree to text in the one canonical layout, comments included."""

from __future__ import annotations

from collections.abc import Sequence

from attnloom.grammar.expressions import ExpressionPrinter, Level, one_line, plain_number
from attnloom.grammar.parser import parse
from attnloom.grammar.pretty import Doc
from attnloom.grammar.syntax import (
    Add,
    Call,
    Expect,
    Expr,
    File,
    Input,
    Let,
    Memory,
    Never,
    Only,
    Statement,
    When,
)


def format_expr(expr: Expr) -> str:
    """An expression on one line, with the fewest parentheses that keep its tree.

    >>> from attnloom.grammar.parser import parse_expression
    >>> format_expr(parse_expression("(a|b)&((c))"))
    '(a | b) & c'
    """
    return one_line(_ONE_LINE.doc(expr))


def format_statement(statement: Statement) -> str:
    """A statement on one line."""
    return one_line(_statement(statement))


def _statement(statement: Statement) -> Doc:
    doc = _ONE_LINE.doc
    match statement:
        case Add(value=value):
            return doc(value)
        case Only(value=value):
            return ("only ", doc(value))
        case Never(value=value):
            return ("never ", doc(value))
        case Let(name=name, value=value):
            return (f"let {name} = ", doc(value))
        case Memory(arguments=arguments):
            return ("memory", _ONE_LINE.arguments(arguments))
        case Input(name=name, kind=kind):
            return f"input {name}: {kind}"
        case Expect(metric=metric, operator=None):
            return f"expect {metric}"
        case Expect(metric=metric, operator=operator, value=value):
            assert value is not None
            return (f"expect {metric} {operator} ", doc(value, Level.UNION))
        case When(condition=condition, then=then, otherwise=otherwise):
            shown = one_line(doc(condition))
            head = f"when ({shown}) " if "{" in shown else f"when {shown} "
            tail: Doc = ()
            if otherwise is not None:
                chained = len(otherwise) == 1 and isinstance(otherwise[0], When)
                tail = (" else ", _statement(otherwise[0]) if chained else _braces(otherwise))
            return (head, _braces(then), tail)


def _braces(statements: Sequence[Statement]) -> Doc:
    if not statements:
        return "{}"
    return f"{{ {'; '.join(map(format_statement, statements))} }}"


def _body(statements: Sequence[Statement], call: Call) -> Doc:
    return _braces(statements)


_ONE_LINE = ExpressionPrinter(_body, plain_number)


def format_file(file: File) -> str:
    """A whole file."""
    raise NotImplementedError


def format_source(text: str, name: str = "<text>") -> str:
    """The canonical layout of a text.

    Raises:
        PatternError: the text is not a pattern file.
    """
    return format_file(parse(text, name))
