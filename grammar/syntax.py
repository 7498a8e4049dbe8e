"""The syntax tree of a pattern file: frozen dataclasses, each with its span, compared without it.

Nothing here knows what a name means; `compiler` decides that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from attnloom.grammar.source import Source, Span


@dataclass(frozen=True, slots=True)
class Node:
    """Base of every node. The span never takes part in equality."""

    span: Span = field(compare=False, repr=False)


# --- expressions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number(Node):
    value: int


@dataclass(frozen=True, slots=True)
class Boolean(Node):
    value: bool


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A bare name: a primitive, variable, parameter, input, `let`, or pattern without arguments."""

    name: str


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """`value` or `name=value` in a call."""

    name: str | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`name(arguments)`, with a `{ body }` for `blocks` and `grid` (None when there is none)."""

    name: str
    name_span: Span = field(compare=False, repr=False)
    arguments: tuple[Argument, ...]
    body: tuple[Statement, ...] | None = None


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-x`, `~x` or `not x`; `operator` is one of `- ~ not`."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`operator` is one of `| ^ & + - * // % ** and or`."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A chain such as `0 <= i - j < 4`: one operand more than operators (`< <= > >= == !=`)."""

    operators: tuple[str, ...]
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Interval(Node):
    """The token range `start..stop`, half-open."""

    start: Expr
    stop: Expr


@dataclass(frozen=True, slots=True)
class Ends(Node):
    """`first count` or `last count`; `end` is the word."""

    end: str
    count: Expr


@dataclass(frozen=True, slots=True)
class Every(Node):
    """`every step` or `every step from start`."""

    step: Expr
    start: Expr | None


@dataclass(frozen=True, slots=True)
class Listing(Node):
    """`[0, 5, 9..12]`: the union of its items."""

    items: tuple[Expr, ...]


Expr = Number | Boolean | Name | Call | Unary | Binary | Compare | Interval | Ends | Every | Listing


# --- statements ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Add(Node):
    """An expression alone: its links join the pattern."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Only(Node):
    value: Expr


@dataclass(frozen=True, slots=True)
class Never(Node):
    value: Expr


@dataclass(frozen=True, slots=True)
class Let(Node):
    name: str
    name_span: Span = field(compare=False, repr=False)
    value: Expr


@dataclass(frozen=True, slots=True)
class When(Node):
    """`when condition { then } else { otherwise }`.

    `else when ...` is an `otherwise` of exactly one `When`; no `else` is `None`.
    """

    condition: Expr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] | None


@dataclass(frozen=True, slots=True)
class Memory(Node):
    """`memory(m, reads=..., read=...)`."""

    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Input(Node):
    """`input name: kind`; the kind is text as written (`tokens`, `segments`, `links` are valid)."""

    name: str
    name_span: Span = field(compare=False, repr=False)
    kind: str
    kind_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Expect(Node):
    """`expect metric operator value`, or `expect property` (operator and value None)."""

    metric: str
    metric_span: Span = field(compare=False, repr=False)
    operator: str | None
    value: Expr | None


Statement = Add | Only | Never | Let | When | Memory | Input | Expect


# --- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """`name: kind in low..high = default`.

    `kind` is None when omitted, else text as written (`int`, `bool`, `tokens` are valid); `low` and
    `high` come together; `default` may be absent: then every caller must give a value.
    """

    name: str
    name_span: Span = field(compare=False, repr=False)
    kind: str | None
    kind_span: Span | None = field(compare=False, repr=False)
    low: Expr | None
    high: Expr | None
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Pattern(Node):
    name: str
    name_span: Span = field(compare=False, repr=False)
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Use(Node):
    """`use "path.attn"` (quoted) or `use name` (a bundled pattern)."""

    target: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Comment(Node):
    """A comment's text from `#` to the end of its line; `alone` when nothing precedes it there."""

    text: str
    alone: bool


@dataclass(frozen=True, slots=True)
class File(Node):
    """A whole file. Comments are kept for the formatter and take no part in equality."""

    source: Source = field(compare=False, repr=False)
    uses: tuple[Use, ...]
    patterns: tuple[Pattern, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False, repr=False)


# --- walking -------------------------------------------------------------------------------------

_CHILD_FIELDS: dict[type[Node], tuple[str, ...]] = {}
_PLAIN_TYPES = {"bool", "int", "str", "str | None", "tuple[str, ...]"}


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below a node, in the order of the text.

    >>> span = Span(0, 0)
    >>> [child.value for child in children(Listing(span, (Number(span, 5), Number(span, 7))))]
    [5, 7]
    """
    names = _CHILD_FIELDS.get(type(node))
    if names is None:
        names = _CHILD_FIELDS[type(node)] = tuple(
            one.name for one in fields(node) if one.compare and one.type not in _PLAIN_TYPES
        )
    for name in names:
        value = getattr(node, name)
        if isinstance(value, tuple):
            yield from value
        elif value is not None:
            yield value
