"""From the parser's reductions to the syntax tree: one method a grammar rule, called bottom-up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from lark import Token, Transformer

from attnloom.grammar.source import Source, Span
from attnloom.grammar.syntax import (
    Add,
    Argument,
    Binary,
    Boolean,
    Call,
    Compare,
    Ends,
    Every,
    Expect,
    Expr,
    File,
    Input,
    Interval,
    Let,
    Listing,
    Memory,
    Name,
    Never,
    Node,
    Number,
    Only,
    Parameter,
    Pattern,
    Unary,
    Use,
    When,
)

Children = list[Any]


@dataclass(frozen=True, slots=True)
class Group:
    """What stands between two brackets, with the span of both."""

    span: Span
    items: tuple[Any, ...]


def span_of(child: Token | Node | Group) -> Span:
    if isinstance(child, Token):
        return Span(cast(int, child.start_pos), cast(int, child.end_pos))
    return child.span


def covering(children: Children) -> Span:
    """From the first child to the last one that is there."""
    present = [child for child in children if child is not None]
    return Span(span_of(present[0]).start, span_of(present[-1]).stop)


def nodes(children: Children) -> tuple[Any, ...]:
    """The children without their punctuation."""
    return tuple(child for child in children if isinstance(child, Node))


def grouped(children: Children) -> Group:
    return Group(covering(children), nodes(children))


class Build(Transformer[Token, File]):
    """Builds nodes while Lark reduces; it keeps no state, so one instance serves every parse."""

    def file(self, children: Children) -> File:
        # The parser puts the source, the comments and the span of the whole text.
        uses = tuple(child for child in children if isinstance(child, Use))
        patterns = tuple(child for child in children if isinstance(child, Pattern))
        return File(Span(0, 0), Source("", ""), uses, patterns)

    def expression(self, children: Children) -> Expr:
        return cast(Expr, children[0])

    def use(self, children: Children) -> Use:
        target = children[1]
        if target.type == "STRING":
            return Use(covering(children), str(target[1:-1]), quoted=True)
        return Use(covering(children), str(target), quoted=False)

    def pattern(self, children: Children) -> Pattern:
        _, name, parameters, body = children
        return Pattern(
            covering(children),
            str(name),
            span_of(name),
            parameters.items if parameters else (),
            body.items,
        )

    parameters = arguments = body = then = staticmethod(grouped)

    def parameter(self, children: Children) -> Parameter:
        name, kind, limits, default = children
        return Parameter(
            covering(children),
            str(name),
            span_of(name),
            str(kind.items[0]) if kind else None,
            span_of(kind.items[0]) if kind else None,
            limits.items[0] if limits else None,
            limits.items[1] if limits else None,
            default.items[0] if default else None,
        )

    def kind(self, children: Children) -> Group:
        return Group(covering(children), (children[1],))

    range = default = start = staticmethod(grouped)

    # --- statements ---

    def add(self, children: Children) -> Add:
        return Add(covering(children), children[0])

    def only(self, children: Children) -> Only:
        return Only(covering(children), children[1])

    def never(self, children: Children) -> Never:
        return Never(covering(children), children[1])

    def let(self, children: Children) -> Let:
        _, name, _, value = children
        return Let(covering(children), str(name), span_of(name), value)

    def when(self, children: Children) -> When:
        _, condition, then, otherwise = children
        return When(covering(children), condition, then.items, otherwise and otherwise.items)

    def otherwise(self, children: Children) -> Group:
        _, branch = children
        items = branch.items if isinstance(branch, Group) else (branch,)
        return Group(covering(children), items)

    def memory(self, children: Children) -> Memory:
        return Memory(covering(children), children[1].items)

    def input(self, children: Children) -> Input:
        _, name, _, kind = children
        return Input(covering(children), str(name), span_of(name), str(kind), span_of(kind))

    def requirement(self, children: Children) -> Group:
        return Group(covering(children), tuple(children))

    def expect(self, children: Children) -> Expect:
        _, metric, requirement = children
        operator, value = requirement.items if requirement else (None, None)
        return Expect(
            covering(children), str(metric), span_of(metric), operator and str(operator), value
        )

    # --- expressions ---

    def binary(self, children: Children) -> Binary:
        left, operator, right = children
        return Binary(covering(children), str(operator), left, right)

    def unary(self, children: Children) -> Unary:
        operator, operand = children
        return Unary(covering(children), str(operator), operand)

    def compare(self, children: Children) -> Compare:
        operators = tuple(str(operator) for operator in children[1::2])
        return Compare(covering(children), operators, tuple(children[::2]))

    def interval(self, children: Children) -> Interval:
        return Interval(covering(children), children[0], children[2])

    def ends(self, children: Children) -> Ends:
        return Ends(covering(children), str(children[0]), children[1])

    def every(self, children: Children) -> Every:
        _, step, start = children
        return Every(covering(children), step, start.items[0] if start else None)

    def number(self, children: Children) -> Number:
        return Number(covering(children), int(children[0].replace("_", ""), 0))

    def boolean(self, children: Children) -> Boolean:
        return Boolean(covering(children), children[0] == "true")

    def name(self, children: Children) -> Name:
        return Name(covering(children), str(children[0]))

    def call(self, children: Children) -> Call:
        name, arguments, body = children
        return Call(
            covering(children), str(name), span_of(name), arguments.items, body and body.items
        )

    def listing(self, children: Children) -> Listing:
        return Listing(covering(children), nodes(children))

    def group(self, children: Children) -> Expr:
        # The parentheses belong to the span: what is underlined starts and ends where it seems to.
        return cast(Expr, replace(children[1], span=covering(children)))

    def positional(self, children: Children) -> Argument:
        return Argument(covering(children), None, children[0])

    def word(self, children: Children) -> Token:
        return cast(Token, children[0])

    def named(self, children: Children) -> Argument:
        word, _, value = children
        return Argument(covering(children), str(word), value)
