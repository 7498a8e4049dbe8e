"""From the syntax tree to text in the one canonical layout, comments included."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from attnloom.grammar.expressions import (
    ExpressionPrinter,
    Level,
    bracketed,
    has_bare_body,
    in_parentheses,
)
from attnloom.grammar.parser import parse
from attnloom.grammar.pretty import Doc, Group, HardBreak, Nest, Trailing, layout
from attnloom.grammar.source import Span
from attnloom.grammar.syntax import (
    Add,
    Binary,
    Comment,
    Compare,
    Ends,
    Every,
    Expect,
    Expr,
    File,
    Input,
    Interval,
    Let,
    Memory,
    Never,
    Node,
    Number,
    Only,
    Parameter,
    Pattern,
    Statement,
    Unary,
    Use,
    When,
)

WIDTH = 100
"""Columns of a line; a trailing comment does not count."""


def format_source(text: str, name: str = "<text>") -> str:
    """The canonical layout of a text.

    Raises:
        PatternError: the text is not a pattern file.
    """
    return format_file(parse(text, name))


def format_file(file: File) -> str:
    """The canonical layout of a file: a statement a line, comments where they were.

    A comment inside a statement of several lines moves to a line before it. One empty line between
    statements stays. Numbers stay as they are spelt, and so do parentheses around an operand that
    has an operator of its own: `(n % 4) * 2`.
    """
    return layout(_FilePrinter(file).file(), width=WIDTH) + "\n"


def format_statement(statement: Statement) -> str:
    """A statement on one line.

    >>> from attnloom.grammar.parser import parse
    >>> format_statement(parse("pattern p { when n>4 { full\\n self } }").patterns[0].body[0])
    'when n > 4 { full; self }'
    """
    return _one_line(_LinePrinter().statement(statement))


def format_expr(expr: Expr) -> str:
    """An expression on one line, with the fewest parentheses that keep its tree.

    >>> from attnloom.grammar.parser import parse_expression
    >>> format_expr(parse_expression("(a|b)&((c))"))
    '(a | b) & c'
    """
    return _one_line(_LinePrinter().expr(expr))


def _one_line(doc: Doc) -> str:
    return layout(Group(doc), width=10**9)


class _StatementPrinter(ExpressionPrinter):
    """Prints statements; how a body looks is left open."""

    def statement(self, statement: Statement) -> Doc:
        match statement:
            case Add(value=value):
                # At the start of a line `-` would go on with the statement before.
                doc = self.expr(value)
                return in_parentheses(doc) if self.starts_with_minus(value) else doc
            case Only(value=value):
                return ("only ", self.expr(value))
            case Never(value=value):
                return ("never ", self.expr(value))
            case Let(name=name, value=value):
                return (f"let {name} = ", self.expr(value))
            case When():
                return self._when(statement)
            case Memory(arguments=arguments):
                return ("memory", self.arguments(arguments))
            case Input(name=name, kind=kind):
                return f"input {name}: {kind}"
            case Expect(metric=metric, operator=None):
                return f"expect {metric}"
            case Expect(metric=metric, operator=operator, value=value):
                assert value is not None
                return (f"expect {metric} {operator} ", self.expr(value, Level.UNION))

    def _when(self, when: When) -> Doc:
        condition = self.expr(when.condition)
        if has_bare_body(when.condition):
            # `{` right after a condition opens the body of the `when`.
            condition = in_parentheses(condition)
        head: Doc = ("when ", condition, " ", self.body(when.then, when.condition.span.stop))
        if when.otherwise is None:
            return head
        if len(when.otherwise) == 1 and isinstance(when.otherwise[0], When):
            return (head, " else ", self._when(when.otherwise[0]))
        return (head, " else ", self.body(when.otherwise, self.end_of_body()))

    def end_of_body(self) -> int:
        """The offset after the `}` that was printed last."""
        return 0


_Item = Statement | Use | Pattern


class _LinePrinter(_StatementPrinter):
    """Prints everything on one line, without comments."""

    def body(self, statements: Sequence[Statement], after: int) -> Doc:
        if not statements:
            return "{}"
        return f"{{ {'; '.join(map(format_statement, statements))} }}"


@dataclass
class _Entry:
    """A line or more of a file or body: its document and its place in the source."""

    doc: Doc
    span: Span
    node: Node


@dataclass
class _Around:
    """Comments met inside a statement: those to print before it, and whether a body came yet."""

    before: list[Comment] = field(default_factory=list)
    has_body: bool = False


class _FilePrinter(_StatementPrinter):
    """Prints a file; takes its comments one after another while it walks through the tree."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._source = file.source
        self._comments = sorted(file.comments, key=lambda comment: comment.span)[::-1]
        self._code = _without_comments(file)
        self._around = _Around()
        self._end_of_body = 0

    def file(self) -> Doc:
        items: list[_Item] = [*self._file.uses, *self._file.patterns]
        entries = self._entries(items, len(self._source.text))
        parts: list[Doc] = []
        for at, entry in enumerate(entries):
            if at:
                blank = self._is_apart(entries[at - 1], entry) or _starts_group(entries, at)
                parts.append(HardBreak(blank))
            parts.append(entry.doc)
        return tuple(parts)

    def number(self, number: Number) -> str:
        spelling = self._code[number.span.start : number.span.stop].strip("() \t\r\n")
        if (
            re.fullmatch(r"[0-9]\w*", spelling)
            and int(spelling.replace("_", ""), 0) == number.value
        ):
            return spelling
        return super().number(number)

    def keeps_parentheses(self, operand: Expr) -> bool:
        match operand:
            case Binary(left=first) | Interval(start=first):
                return operand.span.start < first.span.start
            case Compare(operands=(first, *_)):
                return operand.span.start < first.span.start
            case Unary() | Ends() | Every():
                return self._code[operand.span.start : operand.span.start + 1] == "("
            case _:
                return False

    def body(self, statements: Sequence[Statement], after: int) -> Doc:
        start = self._code.find("{", after) + 1 if self._file.comments else 0
        stop = self._code.find("}", statements[-1].span.stop if statements else start)
        # Comments before the brace: in front of the statement, or inside if a body has gone by.
        odd = self._take(start)
        if not self._around.has_body:
            self._around.before += odd
            odd = []
        first = statements[0].span.start if statements else stop
        opening = self._take_trailing(start, first)
        if opening and odd:
            odd.append(opening)
            opening = None
        entries = [_lone(comment) for comment in odd]
        entries += self._entries(statements, stop)
        self._end_of_body = stop + 1
        self._around.has_body = True

        brace: Doc = Trailing("{", opening.text) if opening else "{"
        if not entries and not opening:
            return "{}"
        parts: list[Doc] = []
        for at, entry in enumerate(entries):
            parts.append(HardBreak(at > len(odd) and self._is_apart(entries[at - 1], entry)))
            parts.append(entry.doc)
        return (brace, Nest(tuple(parts)), HardBreak(), "}")

    def end_of_body(self) -> int:
        return self._end_of_body

    def _document(self, node: _Item) -> Doc:
        match node:
            case Use(target=target, quoted=quoted):
                return f'use "{target}"' if quoted else f"use {target}"
            case Pattern():
                return self._pattern(node)
            case _:
                return self.statement(node)

    def _pattern(self, pattern: Pattern) -> Doc:
        head: Doc = f"pattern {pattern.name}"
        after = pattern.name_span.stop
        if pattern.parameters:
            head = (head, bracketed("(", [self._parameter(p) for p in pattern.parameters], ")"))
            after = pattern.parameters[-1].span.stop
        return (head, " ", self.body(pattern.body, after))

    def _parameter(self, parameter: Parameter) -> Doc:
        parts: list[Doc] = [parameter.name]
        if parameter.kind is not None:
            parts.append(f": {parameter.kind}")
        if parameter.low is not None and parameter.high is not None:
            low, high = self.expr(parameter.low, Level.SUM), self.expr(parameter.high, Level.SUM)
            parts.append((" in ", low, "..", high))
        if parameter.default is not None:
            parts.append((" = ", self.expr(parameter.default)))
        return tuple(parts)

    # --- comments and empty lines ---

    def _entries(self, items: Sequence[_Item], stop: int) -> list[_Entry]:
        """Items with the comments before, between and after them, up to the offset `stop`."""
        entries: list[_Entry] = []
        for at, item in enumerate(items):
            entries += [_lone(comment) for comment in self._take(item.span.start)]
            limit = items[at + 1].span.start if at + 1 < len(items) else stop
            entries += self._entry(item, limit)
        return entries + [_lone(comment) for comment in self._take(stop)]

    def _entry(self, item: _Item, limit: int) -> list[_Entry]:
        """An item with the comments inside it and the one at its end, which starts by `limit`."""
        outer, self._around = self._around, _Around()
        doc = self._document(item)
        before, after = self._around.before, self._take(item.span.stop)
        if not self._around.has_body:
            before, after = before + after, []
        self._around = outer

        last = self._take_trailing(item.span.stop, limit)
        if last and after:
            after.append(last)
        elif last:
            doc = Trailing(doc, last.text, self._offset(item, last))
        start, stop = Span(item.span.start, item.span.start), Span(item.span.stop, item.span.stop)
        return [
            *(_Entry(comment.text, start, comment) for comment in before),
            _Entry(doc, item.span, item),
            *(_Entry(comment.text, stop, comment) for comment in after),
        ]

    def _take(self, limit: int) -> list[Comment]:
        """The next comments that start before `limit`."""
        taken = []
        while self._comments and self._comments[-1].span.start < limit:
            taken.append(self._comments.pop())
        return taken

    def _take_trailing(self, after: int, limit: int) -> Comment | None:
        """The comment that follows `after` on the same line and starts before `limit`."""
        if not self._comments or not after <= self._comments[-1].span.start < limit:
            return None
        if self._line(after) != self._line(self._comments[-1].span.start):
            return None
        return self._comments.pop()

    def _offset(self, item: _Item, comment: Comment) -> int:
        """How far right of its statement a comment stands if the author aligned it, else 0."""
        text = self._source.text
        line, column = self._source.location(item.span.start)
        alone = not text[item.span.start - column + 1 : item.span.start].strip()
        between = text[item.span.stop : comment.span.start]
        is_aligned = len(between) - len(between.rstrip()) > 2
        if not (alone and is_aligned and line == self._line(comment.span.start)):
            return 0
        return comment.span.start - item.span.start

    def _is_apart(self, one: _Entry, other: _Entry) -> bool:
        """Whether the author left an empty line between two entries."""
        return self._line(other.span.start) - self._line(one.span.stop) > 1

    def _line(self, offset: int) -> int:
        return self._source.location(offset)[0]


def _lone(comment: Comment) -> _Entry:
    return _Entry(comment.text, comment.span, comment)


def _starts_group(entries: Sequence[_Entry], at: int) -> bool:
    """Whether an empty line must come before an entry: patterns stand apart from all else."""
    if isinstance(entries[at - 1].node, Pattern):
        return True
    if isinstance(entries[at - 1].node, Comment):
        return False
    coming = (entry.node for entry in entries[at:] if not isinstance(entry.node, Comment))
    return isinstance(next(coming, None), Pattern)


def _without_comments(file: File) -> str:
    """The text of a file with blanks in place of comments, so that offsets stay."""
    parts: list[str] = []
    at = 0
    for comment in sorted(file.comments, key=lambda comment: comment.span):
        parts += (file.source.text[at : comment.span.start], " " * len(comment.text))
        at = comment.span.start + len(comment.text)
    return "".join((*parts, file.source.text[at:]))
