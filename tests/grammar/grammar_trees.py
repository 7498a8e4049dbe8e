"""Short names for syntax trees without spans, and strategies that draw trees and noisy texts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from hypothesis import strategies as st

from attnloom.grammar.foreign import RESERVED, VALUES
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
    Number,
    Only,
    Parameter,
    Pattern,
    Statement,
    Unary,
    Use,
    When,
)
from attnloom.grammar.words import KEYWORDS

NOWHERE = Span(0, 0)
NO_SOURCE = Source("", "")


def num(value: int) -> Number:
    return Number(NOWHERE, value)


def truth(value: bool) -> Boolean:
    return Boolean(NOWHERE, value)


def name(text: str) -> Name:
    return Name(NOWHERE, text)


def unary(operator: str, operand: Expr) -> Unary:
    return Unary(NOWHERE, operator, operand)


def binary(left: Expr, operator: str, right: Expr) -> Binary:
    return Binary(NOWHERE, operator, left, right)


def compare(first: Expr, *rest: str | Expr) -> Compare:
    """`compare(a, "<", b, "<=", c)`."""
    operators = tuple(one for one in rest if isinstance(one, str))
    return Compare(NOWHERE, operators, (first, *(one for one in rest if not isinstance(one, str))))


def interval(start: Expr, stop: Expr) -> Interval:
    return Interval(NOWHERE, start, stop)


def first(count: Expr) -> Ends:
    return Ends(NOWHERE, "first", count)


def last(count: Expr) -> Ends:
    return Ends(NOWHERE, "last", count)


def every(step: Expr, start: Expr | None = None) -> Every:
    return Every(NOWHERE, step, start)


def listing(*items: Expr) -> Listing:
    return Listing(NOWHERE, items)


def call(
    called: str, *values: Expr, body: tuple[Statement, ...] | None = None, **named: Expr
) -> Call:
    arguments = [Argument(NOWHERE, None, value) for value in values]
    arguments += [Argument(NOWHERE, key, value) for key, value in named.items()]
    return Call(NOWHERE, called, NOWHERE, tuple(arguments), body)


def add(value: Expr) -> Add:
    return Add(NOWHERE, value)


def only(value: Expr) -> Only:
    return Only(NOWHERE, value)


def never(value: Expr) -> Never:
    return Never(NOWHERE, value)


def let(called: str, value: Expr) -> Let:
    return Let(NOWHERE, called, NOWHERE, value)


def when(
    condition: Expr, then: tuple[Statement, ...], otherwise: tuple[Statement, ...] | None = None
) -> When:
    return When(NOWHERE, condition, then, otherwise)


def memory(*values: Expr, **named: Expr) -> Memory:
    return Memory(NOWHERE, call("memory", *values, **named).arguments)


def declared(called: str, kind: str) -> Input:
    return Input(NOWHERE, called, NOWHERE, kind, NOWHERE)


def expect(metric: str, operator: str | None = None, value: Expr | None = None) -> Expect:
    return Expect(NOWHERE, metric, NOWHERE, operator, value)


def parameter(
    called: str,
    kind: str | None = None,
    limits: tuple[Expr, Expr] | None = None,
    default: Expr | None = None,
) -> Parameter:
    low, high = limits or (None, None)
    kind_span = None if kind is None else NOWHERE
    return Parameter(NOWHERE, called, NOWHERE, kind, kind_span, low, high, default)


def pattern(called: str, *body: Statement, parameters: tuple[Parameter, ...] = ()) -> Pattern:
    return Pattern(NOWHERE, called, NOWHERE, parameters, body)


def file(*items: Use | Pattern) -> File:
    uses = tuple(one for one in items if isinstance(one, Use))
    patterns = tuple(one for one in items if isinstance(one, Pattern))
    return File(NOWHERE, NO_SOURCE, uses, patterns)


def use(target: str, *, quoted: bool = False) -> Use:
    return Use(NOWHERE, target, quoted)


# --- drawn trees ---------------------------------------------------------------------------------

_NO_NAMES = {*KEYWORDS, *VALUES, *RESERVED}
WORDS = st.sampled_from(
    ["n", "i", "j", "head", "causal", "window", "global", "self", "tokens", "x1", "_", "Full"]
)
NAMES = WORDS | st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda text: text not in _NO_NAMES
)
BINARY_OPERATORS = ("|", "^", "&", "+", "-", "*", "//", "%", "**", "and", "or")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")

LEAVES = st.one_of(
    st.builds(num, st.integers(0, 300) | st.just(10**30)),
    st.builds(truth, st.booleans()),
    st.builds(name, NAMES),
)


@st.composite
def compares(draw: st.DrawFn, operands: st.SearchStrategy[Expr]) -> Compare:
    values = draw(st.lists(operands, min_size=2, max_size=3))
    signs = draw(
        st.lists(st.sampled_from(COMPARISONS), min_size=len(values) - 1, max_size=len(values) - 1)
    )
    return Compare(NOWHERE, tuple(signs), tuple(values))


def arguments(values: st.SearchStrategy[Expr]) -> st.SearchStrategy[tuple[Argument, ...]]:
    names = st.none() | NAMES | st.sampled_from(KEYWORDS)
    one = st.builds(Argument, st.just(NOWHERE), names, values)
    return st.lists(one, max_size=3).map(tuple)


def calls(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Call]:
    bodies = st.none() | st.lists(simple_statements(inner), max_size=2).map(tuple)
    nowhere = st.just(NOWHERE)
    return st.builds(Call, nowhere, NAMES, nowhere, arguments(inner), bodies)


def larger(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.one_of(
        st.builds(unary, st.sampled_from(("-", "~", "not")), inner),
        st.builds(binary, inner, st.sampled_from(BINARY_OPERATORS), inner),
        compares(inner),
        st.builds(interval, inner, inner),
        st.builds(first, inner) | st.builds(last, inner),
        st.builds(every, inner, st.none() | inner),
        st.lists(inner, max_size=3).map(lambda items: listing(*items)),
        calls(inner),
    )


def simple_statements(values: st.SearchStrategy[Expr]) -> st.SearchStrategy[Statement]:
    return st.one_of(
        st.builds(add, values),
        st.builds(only, values),
        st.builds(never, values),
        st.builds(let, NAMES, values),
        st.builds(Memory, st.just(NOWHERE), arguments(values)),
        st.builds(declared, NAMES, NAMES),
        st.builds(expect, NAMES),
        st.builds(expect, NAMES, st.sampled_from(COMPARISONS), values),
    )


EXPRESSIONS: st.SearchStrategy[Expr] = st.recursive(LEAVES, larger, max_leaves=8)


def whens(inner: st.SearchStrategy[Statement]) -> st.SearchStrategy[When]:
    body = st.lists(inner, max_size=2).map(tuple)
    return st.builds(when, EXPRESSIONS, body, st.none() | body)


STATEMENTS: st.SearchStrategy[Statement] = st.recursive(
    simple_statements(EXPRESSIONS), whens, max_leaves=4
)
LIMITS = st.none() | st.tuples(EXPRESSIONS, EXPRESSIONS)
PARAMETERS = st.builds(parameter, NAMES, st.none() | NAMES, LIMITS, st.none() | EXPRESSIONS)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    body = draw(st.lists(STATEMENTS, max_size=4))
    parameters = draw(st.lists(PARAMETERS, max_size=3))
    return pattern(draw(NAMES), *body, parameters=tuple(parameters))


PATHS = st.from_regex(r"[a-z./-]{1,12}", fullmatch=True).map(lambda path: use(path, quoted=True))
FILES = st.builds(
    lambda uses, defined: file(*uses, *defined),
    st.lists(PATHS | st.builds(use, NAMES), max_size=2),
    st.lists(patterns(), min_size=1, max_size=2),
)


# --- noise ---------------------------------------------------------------------------------------

_OPERATOR = re.compile(r" (\||\^|&|\+|\*|//|%|\*\*|and|or|<=?|>=?|==|!=|=) ")


def noisy(text: str, seed: int) -> str:
    """A formatted text laid out at random, which must mean the same.

    Blanks are added, lines broken inside brackets and after operators, and comments put at the end
    of any line: none of that may change the tree.
    """
    chance = random.Random(seed)
    depth = 0
    parts: list[str] = []
    for token in re.findall(r'"[^"]*"|\w+|[^\w\s]|\s+', _OPERATOR.sub(_broken(chance), text)):
        depth += (token in "([") - (token in ")]")
        if token in ("{", "else") and chance.random() < 0.2:
            parts.append(chance.choice(["\n", " # before\n", "\n\n# before\n\n"]))
        if token == "{":
            # A line break in there counts again.
            depth = 0
        if "\n" in token:
            token = _line_end(chance) + token
        elif token.isspace():
            token = chance.choice([" ", "  ", "\t"])
        parts.append(token)
        if token in ("(", "[", ",") and depth > 0 and chance.random() < 0.2:
            parts.append(chance.choice(["\n", " # inside\n", "\r\n\t", "\n\n# alone\n"]))
    return "".join(parts)


def _broken(chance: random.Random) -> Callable[[re.Match[str]], str]:
    def replace(found: re.Match[str]) -> str:
        after = chance.choice([" ", " ", " ", "\n", " # after\n", "\r"])
        return f" {found[1]}{after}"

    return replace


def _line_end(chance: random.Random) -> str:
    return chance.choice(["", "", " ", "  # at the end", "\n", "\n    # alone", "\r\n# more\r\n"])
