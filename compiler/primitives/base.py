"""What a primitive is: its arguments, its definition, and its fast form.

A primitive is one file with one or more frozen dataclasses. The fields are the arguments as the
language names them, already evaluated; `forms` lists the spellings; `allows` is the definition;
`region` is the fast form, tested against `allows`. Argument checks, the table of the documentation,
the strategies for property tests and the tests themselves derive from these.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from enum import Enum
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.expressions import Expression
from attnloom.compiler.regions import Region
from attnloom.compiler.runs import Ints, Runs

Bools = NDArray[np.bool_]


class Kind(Enum):
    """What an argument takes; the value is how a message speaks of it."""

    NUMBER = "a number"
    FLAG = "true or false"
    TOKENS = "a token set"
    NUMBERS = "a list of numbers"
    RELATION = "a relation"
    SEGMENTS = "a segments input"
    LINKS = "a links input"
    CONDITION = "a condition on i and j"
    CONTEXT = "nothing: it comes from where the primitive stands"


@dataclass(frozen=True)
class Form:
    """One spelling of a primitive.

    `text` is the call as the documentation shows it, without the common options; `meaning` says
    which pairs; `names` are the arguments it needs, of which the first `positional` may come
    without their names; `options` are those that may be left out.
    """

    text: str
    meaning: str
    names: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    positional: int = 0


@dataclass(frozen=True)
class Argument:
    """An argument of a primitive: what it takes, and the numbers that it accepts."""

    name: str
    kind: Kind
    default: Any
    least: int | None
    most: int | None

    @property
    def is_optional(self) -> bool:
        return self.default is not MISSING


@dataclass(frozen=True)
class Context:
    """Where a primitive stands: what else its meaning may depend on.

    `length` counts the positions, which are tokens or, inside `blocks`, blocks. `candidates` gives
    the keys that random links may choose for all queries, or `None` for all keys. `shape` is that
    of the grid around, if there is one.
    """

    length: int
    head: int
    layer: int
    candidates: Callable[[Region | None], Runs | None]
    shape: tuple[int, ...] | None


class BadArgument(Exception):
    """An argument's value makes no sense: which argument, what is wrong, and what to type.

    `least` is the least number that it takes, if that is what is wrong.
    """

    def __init__(
        self, name: str, message: str, *hints: str, expected: str = "", least: int | None = None
    ) -> None:
        super().__init__(message)
        self.name, self.message, self.hints = name, message, hints
        self.expected, self.least = expected, least


def number(*, least: int | None = None, most: int | None = None, default: Any = MISSING) -> Any:
    """A field that takes a number within bounds, both inclusive."""
    return _field(Kind.NUMBER, default, least, most)


def flag(*, default: bool) -> Any:
    """A field that takes true or false."""
    return _field(Kind.FLAG, default)


def of_kind(kind: Kind, default: Any = MISSING) -> Any:
    """A field that takes anything else."""
    return _field(kind, default)


def _field(kind: Kind, default: Any, least: int | None = None, most: int | None = None) -> Any:
    metadata = {"kind": kind, "least": least, "most": most}
    if kind is Kind.CONTEXT:
        return dataclasses.field(metadata=metadata, repr=False)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, eq=False, kw_only=True)
class Primitive(ABC):
    """A relation that the language has a name for, with the values of its arguments."""

    name: ClassVar[str]
    forms: ClassVar[tuple[Form, ...]]
    in_grid: ClassVar[bool] = False
    """Whether it stands in the body of a `grid`, and only there."""

    is_drawn: ClassVar[bool] = False
    """Whether it may be drawn anew for each head or layer."""

    @abstractmethod
    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        """Whether query `i` reads key `j`; the definition.

        Args:
            i: queries, in `0..length`.
            j: keys, in `0..length`; broadcasts with `i`.
            length: how many positions there are.
        """

    @abstractmethod
    def region(self, length: int) -> Region:
        """The same pairs, in the form that is fast to ask; perhaps more beyond the positions."""

    @abstractmethod
    def describe(self, length: int) -> str:
        """The meaning in a few words, with the numbers filled in."""

    def is_prefix(self, length: int) -> bool:
        """Whether every query reads the first so many keys, not by the accident of a length."""
        return False

    @classmethod
    def arguments(cls) -> dict[str, Argument]:
        """The arguments by name, without what comes from the context."""
        return {
            field.name: Argument(
                field.name, field.metadata["kind"], field.default,
                field.metadata["least"], field.metadata["most"],
            )
            for field in dataclasses.fields(cls)
            if field.metadata["kind"] is not Kind.CONTEXT
        }  # fmt: skip

    @classmethod
    def of(cls, values: Mapping[str, Any], context: Context) -> Self:
        """The primitive with some values, the other arguments having their defaults.

        Raises:
            BadArgument: a value makes no sense.
        """
        for name, argument in cls.arguments().items():
            value = values.get(name)
            if argument.kind is Kind.NUMBER and value is not None:
                _check_bounds(argument, value)
        found = cls(**values, **cls.from_context(values, context))
        found.check()
        return found

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """The fields that come from where it stands."""
        return {}

    def check(self) -> None:  # noqa: B027 - most values go together
        """Raise BadArgument if the values do not go together."""


def _check_bounds(argument: Argument, value: int) -> None:
    if argument.least is not None and value < argument.least:
        raise BadArgument(
            argument.name,
            f"`{argument.name}` must be at least {argument.least}, got {value}",
            least=argument.least,
        )
    if argument.most is not None and value > argument.most:
        raise BadArgument(
            argument.name,
            f"`{argument.name}` must be at most {argument.most}, got {value}",
            f"`{argument.most}`",
            expected=f"at most {argument.most}",
        )


__all__ = [
    "BadArgument",
    "Context",
    "Expression",
    "Form",
    "Kind",
    "Primitive",
    "flag",
    "number",
    "of_kind",
]
