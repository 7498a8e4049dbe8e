"""What names mean at some place of a pattern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from attnloom.compiler.typed import Input, Node, Parameter, Type
from attnloom.grammar import syntax


class Term(NamedTuple):
    """An expression with its type; without type and node when it is wrong, and reported."""

    type: Type | None
    node: Node | None


BROKEN = Term(None, None)


@dataclass(eq=False)
class Names:
    """The `let`s of one pair of braces, and those around it.

    A `let` may be used before it is written: the order of statements means nothing. Its value is
    elaborated when it is first asked for.
    """

    lets: dict[str, syntax.Let]
    scope: Scope | None = None
    """The scope in which the values of these `let`s stand."""

    terms: dict[tuple[str, int], Term] = field(default_factory=dict)
    """The values that have been asked for; in `blocks` a name may not have the same one."""

    open: list[str] = field(default_factory=list)
    """The `let`s whose values are being elaborated."""


@dataclass(frozen=True, eq=False)
class Scope:
    """Where an expression stands: the names it sees, and the constructs around it."""

    parameters: Mapping[str, Parameter]
    inputs: Mapping[str, Input]
    names: tuple[Names, ...] = ()
    """Innermost last."""

    in_blocks: int = 0
    """How many `blocks` are around."""

    in_condition: bool = False
    grid_axes: int = 0

    def find(self, name: str) -> Names | None:
        """The braces whose `let` a name is."""
        return next((one for one in reversed(self.names) if name in one.lets), None)

    def within(self, lets: dict[str, syntax.Let]) -> Scope:
        """The scope inside of further braces."""
        names = Names(lets)
        names.scope = replace(self, names=(*self.names, names), in_condition=False)
        return names.scope

    def known(self) -> Iterator[str]:
        """Every name that a pattern has given a meaning here."""
        for one in self.names:
            yield from one.lets
        yield from self.parameters
        yield from self.inputs
