"""The typed tree: a pattern with every name resolved and every type known, for any length.

The elaborator makes it from the syntax tree; the binder evaluates it at a length. `let` names are
gone: whoever uses one holds the very node of its value, so the tree is a graph without cycles.
`size` counts a node with all below it, once for every use, and `depth` is the longest way down;
both are limited, so that later stages may walk the tree as they like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from attnloom.compiler.problems import Place

if TYPE_CHECKING:
    from attnloom.compiler.primitives.base import Primitive


class Type(Enum):
    """What an expression can be; the value is how a message speaks of it."""

    NUMBER = "a number"
    CONDITION = "a condition"
    TOKENS = "a token set"
    RELATION = "a relation"
    SEGMENTS = "a segments input"
    LINKS = "a links input"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Base of every node; compared by identity."""

    place: Place

    @property
    def children(self) -> tuple[Node, ...]:
        return ()


@dataclass(frozen=True, slots=True, eq=False)
class Measured(Node):
    """A node that knows how large it is."""

    size: int = field(init=False)
    depth: int = field(init=False)

    def __post_init__(self) -> None:
        below = [child for child in self.children if isinstance(child, Measured)]
        object.__setattr__(self, "size", 1 + sum(child.size for child in below))
        object.__setattr__(self, "depth", 1 + max((child.depth for child in below), default=0))


# --- numbers and conditions ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Constant(Measured):
    """A number, or a truth value, that is written out."""

    value: int


@dataclass(frozen=True, slots=True, eq=False)
class Variable(Measured):
    """`n`, `head`, `heads`, `layer`, `layers`, and inside `where` also `i` and `j`."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Given(Measured):
    """The value of a parameter of the pattern, of any type that parameters have."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Measured):
    """An operator or a function of numbers and conditions; see `arithmetic.OPERATIONS`."""

    name: str
    operands: tuple[Number, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.operands


@dataclass(frozen=True, slots=True, eq=False)
class Count(Measured):
    """`count(tokens)`."""

    tokens: Tokens

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.tokens,)


Number = Constant | Variable | Given | Operation | Count
"""A number or a condition."""


# --- token sets ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Position(Measured):
    """One token. `from_end` when it is written as a negative number, such as `-1`."""

    number: Number
    from_end: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.number,)


@dataclass(frozen=True, slots=True, eq=False)
class Progression(Measured):
    """`start..stop` (step 1), `every step from start` (no stop)."""

    start: Number
    stop: Number | None
    step: Number

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(part for part in (self.start, self.stop, self.step) if part is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Ends(Measured):
    """`first count` or `last count`."""

    end: str
    count: Number

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.count,)


@dataclass(frozen=True, slots=True, eq=False)
class TokenInput(Measured):
    """The tokens that a run-time input gives."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Combined(Measured):
    """Token sets, or relations, joined by one of `| & -`."""

    operator: str
    parts: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.parts


Tokens = Position | Progression | Ends | TokenInput | Given | Combined


@dataclass(frozen=True, slots=True, eq=False)
class NumberList(Measured):
    """`[0, 1, 8..12]` where numbers are listed and not tokens."""

    items: tuple[Number | Progression, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return self.items


# --- relations -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class InputName(Measured):
    """A segments or links input."""

    name: str
    kind: Type


@dataclass(frozen=True, slots=True, eq=False)
class Call(Measured):
    """A primitive with its arguments; absent ones have their defaults."""

    primitive: type[Primitive]
    arguments: Mapping[str, Node]

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(self.arguments.values())


@dataclass(frozen=True, slots=True, eq=False)
class Inverted(Measured):
    """`~part`."""

    part: Relation

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.part,)


@dataclass(frozen=True, slots=True, eq=False)
class Transposed(Measured):
    """`transpose(part)`."""

    part: Relation

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.part,)


@dataclass(frozen=True, slots=True, eq=False)
class InBlocks(Measured):
    """`blocks(block_size) { body }`."""

    block_size: Number
    body: Body

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.block_size, self.body)


@dataclass(frozen=True, slots=True, eq=False)
class InGrid(Measured):
    """`grid(h, w) { body }` or `grid(t, h, w) { body }`."""

    shape: tuple[Number, ...]
    body: Body

    @property
    def children(self) -> tuple[Node, ...]:
        return (*self.shape, self.body)


@dataclass(frozen=True, slots=True, eq=False)
class PatternCall(Measured):
    """Another pattern at the same length, head and layer."""

    pattern: Pattern
    arguments: Mapping[str, Node]

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.pattern.body, *self.arguments.values())


Relation = Call | Combined | Inverted | Transposed | InBlocks | InGrid | PatternCall


# --- bodies and patterns -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Memory(Measured):
    """`memory(slots)`; `reads` and `is_read` say which directions are on."""

    slots: Number
    reads: Number
    is_read: Number

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.slots, self.reads, self.is_read)


@dataclass(frozen=True, slots=True, eq=False)
class Contract(Measured):
    """`expect metric operator value`, or `expect metric` for a property."""

    metric: str
    operator: str | None
    value: Number | None
    text: str

    @property
    def children(self) -> tuple[Node, ...]:
        return () if self.value is None else (self.value,)


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Measured):
    """`when condition { then } else { otherwise }`."""

    condition: Number
    then: Body
    otherwise: Body | None

    @property
    def children(self) -> tuple[Node, ...]:
        branches = (self.then,) if self.otherwise is None else (self.then, self.otherwise)
        return (self.condition, *branches)


@dataclass(frozen=True, slots=True, eq=False)
class Body(Measured):
    """Statements in braces, sorted by kind; their order means nothing."""

    adds: tuple[Relation, ...]
    onlys: tuple[Relation, ...]
    nevers: tuple[Relation, ...]
    choices: tuple[Choice, ...]
    memory: tuple[Memory, ...]
    contracts: tuple[Contract, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        return (
            *self.adds, *self.onlys, *self.nevers, *self.choices, *self.memory, *self.contracts,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A parameter: its type, the range that property tests draw from, and its default."""

    place: Place
    name: str
    type: Type
    low: Number | None
    high: Number | None
    default: Node | None


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A run-time input; the type is TOKENS, SEGMENTS or LINKS."""

    place: Place
    name: str
    type: Type


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A pattern for any length: `inputs` are its own and those of the patterns it calls."""

    place: Place
    name: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[Input, ...]
    body: Body
    doc: str

    def parameter(self, name: str) -> Parameter | None:
        return next((one for one in self.parameters if one.name == name), None)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The patterns of a file, by name, and the main one."""

    patterns: Mapping[str, Pattern]
    main: Pattern
