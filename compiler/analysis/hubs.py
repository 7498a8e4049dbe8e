"""Hubs: the tokens that a pattern makes global, and the pattern without them.

Hubs are what `global`, `broadcast` and `collect` name, and memory tokens. To take a token away is
to take all its links: nothing is read from it, and it reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from attnloom.compiler.analysis import by_zones
from attnloom.compiler.analysis.figures import Hops, Note
from attnloom.compiler.analysis.intended import Intended
from attnloom.compiler.analysis.reach import Reach
from attnloom.compiler.analysis.stack import Removed, Stack
from attnloom.compiler.analysis.traffic import MOST_LISTED, Traffic, traffic
from attnloom.compiler.analysis.work import Work
from attnloom.compiler.primitives.tokens import Broadcast, Collect, Global
from attnloom.compiler.relation import (
    Difference,
    Intersection,
    Leaf,
    OfBlocks,
    Relation,
    Transposed,
    Union,
)
from attnloom.compiler.tokens import Stretch, TokenSet
from attnloom.compiler.zones import TooComplex

_MOST_SHARE = 2
"""A set that holds more than one in so many tokens makes no hubs of them."""

_FEW = 8
"""Hubs that are taken away one by one."""

_MOST_HOPS = 64
"""Hops up to which pairs are compared with and without the hubs."""


def hubs(stack: Stack) -> Removed:
    """The hubs of all layers together; none if they are most of the tokens."""
    found = [
        tokens
        for kind in stack.kinds
        for bound in kind.bounds
        for statement in bound.statements
        if statement.kind == "add" and statement.relation is not None
        for tokens in _named(statement.relation, stack.tokens, 1)
        if len(tokens) * _MOST_SHARE <= stack.tokens
    ]
    none = TokenSet.of(stack.tokens)
    tokens = reduce(TokenSet.__or__, found, none)
    if len(tokens) * _MOST_SHARE > stack.tokens:
        tokens = none
    named = Removed(tokens, tuple(range(-stack.memory, 0)))
    gone = stack.kinds[0].removed
    return named if gone is None else named - gone


def _named(relation: Relation, length: int, size: int) -> Iterator[TokenSet]:
    """The token sets that a relation makes global; `size` tokens are one of its positions."""
    match relation:
        case Leaf(primitive=Global() | Broadcast() | Collect() as primitive):
            tokens = primitive.tokens
            yield tokens.in_blocks(size, length) if size > 1 else tokens
        case Union(parts=parts) | Intersection(parts=parts):
            for part in parts:
                yield from _named(part, length, size)
        case Difference(part=part) | Transposed(part=part):
            yield from _named(part, length, size)
        case OfBlocks(part=part, size=inner):
            yield from _named(part, length, size * inner)


@dataclass(frozen=True, eq=False)
class Without:
    """A stack and its intended pairs after some tokens have been taken away."""

    stack: Stack
    intended: Intended

    @classmethod
    def of(cls, stack: Stack, intended: Intended, removed: Removed) -> Without:
        return cls(stack.without(removed), intended.without(removed))

    def hops(self, note: Note, samples: int) -> Hops:
        """How far the pairs of the other tokens are then apart."""
        return Reach(self.stack, self.intended, note, samples).hops


@dataclass(frozen=True)
class Loss:
    """What becomes of the other pairs when one token is taken away."""

    token: int
    hops: Hops


@dataclass(frozen=True)
class Hubs:
    """The hubs, what they carry, and what becomes of the pattern without them.

    `positions` are the first of them. `relay_nothing` says that no hub tells anyone what is not
    read directly anyway, and `dependent_share` is the share of intended pairs all of whose shortest
    routes pass a hub; both are `None` where they are not known. `losses` has the hubs one by one,
    if they are few.
    """

    count: int
    positions: tuple[int, ...]
    relay_nothing: bool | None
    traffic: Traffic | None
    without: Hops | None
    dependent_share: float | None
    is_dependence_exact: bool
    losses: tuple[Loss, ...]

    @property
    def vital(self) -> tuple[int, ...]:
        """Hubs without which some other pairs can never meet."""
        return tuple(
            loss.token for loss in self.losses if loss.hops.unreachable and loss.hops.total
        )


def find_hubs(
    stack: Stack, intended: Intended, hops: Hops, work: Work, note: Note, samples: int
) -> Hubs:
    """The hubs of a stack whose hops and work are known.

    Raises:
        TooLarge: the rows are too many to look at.
    """
    named = hubs(stack)
    positions = tuple(named.positions(MOST_LISTED))
    found = None
    if stack.is_uniform:
        layer = stack.kinds[0]
        found = traffic(layer, intended, hops, work.kinds[0], list(positions), note)
    if not len(named):
        return Hubs(0, (), None, found, None, None, False, ())
    idle = _relay_nothing(stack, intended, named)
    note("taking the hubs away")
    without = Without.of(stack, intended, named).hops(note, samples)
    share, is_exact = _dependent(stack, intended, hops, named, without, idle)
    losses: tuple[Loss, ...] = ()
    if len(named) == 1:
        losses = (Loss(positions[0], without),)
    elif len(named) <= _FEW and stack.has_zones and not idle:
        alone = (Without.of(stack, intended, _only(named, one)) for one in positions)
        losses = tuple(
            Loss(one, each.hops(note, samples)) for one, each in zip(positions, alone, strict=True)
        )
    return Hubs(len(named), positions, idle, found, without, share, is_exact, losses)


def _only(named: Removed, position: int) -> Removed:
    """A single one of some positions."""
    length = named.tokens.length
    if position >= 0:
        return Removed(TokenSet.of(length, Stretch(position, position + 1)), ())
    return Removed(TokenSet.of(length), (position,))


def _relay_nothing(stack: Stack, intended: Intended, named: Removed) -> bool | None:
    """Whether whatever passes a hub is also read directly, in the only kind of layer."""
    if not stack.is_uniform or not stack.has_zones:
        return None
    reads = stack.kinds[0].zones
    try:
        start, stop = stack.start, stack.stop
        by_hubs = named.rows(start, stop).zones(start, stop)
        over = ((reads & by_hubs.transpose()) @ (reads & by_hubs)) & intended.zones
        return (over - reads).is_empty()
    except TooComplex:
        return None


def _dependent(
    stack: Stack, intended: Intended, hops: Hops, named: Removed, without: Hops, idle: bool | None
) -> tuple[float | None, bool]:
    """The share of intended pairs that are farther apart without the hubs; whether it is exact."""
    if idle or not hops.total:
        return 0.0, True
    if hops.worst_at_most is not None and hops.worst_at_most <= 2 and not hops.unreachable:
        near = sum(step.share for step in without.steps if step.last <= 2)
        return (1 - near) * without.total / hops.total, without.method.is_exact
    if not stack.is_uniform or not stack.has_zones or (hops.worst or 0) > _MOST_HOPS:
        return None, False
    try:
        longer = Without.of(stack, intended, named)
        count = by_zones.num_nearer(
            stack.kinds[0].zones, longer.stack.kinds[0].zones, longer.intended, hops.worst or 0
        )
        return count / hops.total, True
    except TooComplex:
        return None, False
