"""A pattern at a length, for one head of one layer; and how it is put in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attnloom.compiler.regions import Region
from attnloom.compiler.relation import Leaf, OfBlocks, Relation

_WIDTH = 72


@dataclass(frozen=True)
class Statement:
    """A statement of the body that takes part at this length, head and layer."""

    kind: str
    """`add`, `only`, `never` or `memory`."""

    text: str
    relation: Relation | None


@dataclass(frozen=True, eq=False)
class Bound:
    """A pattern at a length, for one head of one layer.

    `length` counts all positions, memory tokens included; they come first.
    """

    name: str
    tokens: int
    memory: int
    relation: Relation
    statements: tuple[Statement, ...]

    @property
    def length(self) -> int:
        return self.tokens + self.memory

    @property
    def region(self) -> Region:
        """The pairs in the form that is fast to ask; memory tokens at negative positions."""
        return self.relation.region

    def describe(self) -> list[str]:
        """What each statement means here, in words and numbers.

        A statement that is not a single primitive has a line for each primitive below its own.

        >>> import attnloom
        >>> attnloom.parse("pattern p(r = 2) { window(each_side=r) }").bind(9).describe()
        ['window(each_side=r): [i-2, i+2] (5 keys)']
        """
        lines = []
        for statement in self.statements:
            text = _shortened(statement.text)
            head = text if statement.kind in ("add", "memory") else f"{statement.kind} {text}"
            if statement.relation is None:
                lines.append(f"{head}: {_memory(self)}")
            elif isinstance(statement.relation, Leaf):
                lines.append(f"{head}: {_meaning(statement.relation)}")
            else:
                lines.append(head)
                inner = dict.fromkeys(_leaves(statement.relation, ""))
                lines += [f"  {line}" for line in inner]
        return lines or ["no pair"]


def _memory(bound: Bound) -> str:
    one = bound.memory == 1
    return f"m0{'' if one else f' to m{bound.memory - 1}'}, before token 0"


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _meaning(leaf: Leaf) -> str:
    return leaf.primitive.describe(leaf.length)


def _leaves(relation: Relation, where: str) -> Iterator[str]:
    if isinstance(relation, Leaf):
        yield f"{relation.primitive.name}{where}: {_meaning(relation)}"
    if isinstance(relation, OfBlocks):
        count = -(-relation.length // relation.size)
        where = f" of {count:,} blocks of {relation.size}"
    for child in relation.children:
        yield from _leaves(child, where)
