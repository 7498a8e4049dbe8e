"""Hops and coverage in closed form: layers are composed as zones, at any length.

With `R` what a layer reads or is, `R @ R` is what two layers let through, and the number of pairs
in `R ** h` that are not in `R ** (h - 1)` is the number of pairs that are `h` hops apart:

>>> window = Zones.zone(0, 10**9, d=(0, 4095))
>>> two_layers = window @ window
>>> two_layers.row(10**6), (two_layers - window).row(10**6)
([(991810, 1000001)], [(991810, 995905)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from attnloom.compiler.analysis.figures import Coverage, Hops, Method, Note, Pair, Step
from attnloom.compiler.analysis.intended import Intended
from attnloom.compiler.analysis.spread import Spread
from attnloom.compiler.analysis.stack import Stack, checked
from attnloom.compiler.zones import TooComplex, Zones

METHOD = Method("zones")

_FEW_HOPS = 64
"""So many hops are looked at before asking how many there are."""

_MOST_STEPS = 16384
"""Bars of the histogram; when there are more hops, a bar stands for several."""

_MOST_FIELDS = 64
"""Layers of which the receptive fields are listed."""


@dataclass(frozen=True, eq=False)
class Target:
    """The intended pairs, and how many of them a relation has connected."""

    intended: Intended

    @cached_property
    def pairs(self) -> Zones:
        return self.intended.zones

    @property
    def total(self) -> int:
        return self.intended.total

    @cached_property
    def itself(self) -> Zones:
        """What is known before the first layer: every position knows itself."""
        start, stop, removed = self.intended.start, self.intended.stop, self.intended.removed
        diagonal = Zones.zone(start, stop, d=(0, 0))
        return diagonal - removed.links(start, stop).zones(start, stop) if removed else diagonal

    def with_self(self, reads: Zones) -> Zones:
        """A layer: what a position reads is added to what it knows."""
        return checked((reads | self.itself).simplify())

    def num_reached(self, reached: Zones) -> int:
        """How many intended pairs are in a relation that holds every position with itself.

        Where the layers connect nothing that is not intended, it needs no intersection.
        """
        if self.intended.holds_all_reads:
            return reached.count() - self.intended.num_positions
        return (reached & self.pairs).count()

    def example(self, reached: Zones, before: Zones) -> Pair | None:
        """An intended pair in one relation and not in another."""
        return pair_of((reached & self.pairs) - before)


def pair_of(relation: Zones) -> Pair | None:
    """The first pair of a relation."""
    found = relation.first_pair()
    return None if found is None else Pair(source=found[1], target=found[0])


# --- one kind of layer, repeated -----------------------------------------------------------------


def hops(reads: Zones, intended: Intended, note: Note) -> Hops:
    """Distances in the graph of one relation.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    target = Target(intended)
    if not target.total:
        return Hops.nothing(METHOD)
    step = target.with_self(reads)
    reached, counts = [target.itself], [0]
    while len(counts) <= _FEW_HOPS:
        reached.append(checked(step @ reached[-1]))
        counts.append(target.num_reached(reached[-1]))
        if counts[-1] in (counts[-2], target.total):
            break
    else:
        return _many_hops(step, target, reached[-1], counts, note)
    if counts[-1] == counts[-2]:  # the last hop brought nothing
        counts.pop()
    worst = len(counts) - 1
    return _hops(range(worst + 1), counts, reached[worst], reached[max(worst - 1, 0)], target)


@dataclass(frozen=True)
class Bound:
    """What a part of a relation makes certain: every pair it connects is at most so far apart."""

    worst: int
    connects_all: bool


def bound(reads: Zones, intended: Intended) -> Bound:
    """The most hops between pairs that a relation connects, and whether these are all.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    target = Target(intended)
    worst, _, powers = _farthest(target.with_self(reads), target)
    return Bound(worst, target.num_reached(powers[-1]) == target.total)


def num_nearer(reads: Zones, fewer: Zones, intended: Intended, most: int) -> int:
    """How many intended pairs one relation connects in fewer hops than a part of it does.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    target = Target(intended)
    step, shorter = target.with_self(reads), target.with_self(fewer)
    before, known, less = target.itself, target.itself, target.itself
    count = 0
    for _ in range(most):
        before, known, less = known, checked(step @ known), checked(shorter @ less)
        count += (((known - before) - less) & target.pairs).count()
    return count


def _many_hops(step: Zones, target: Target, reached: Zones, counts: list[int], note: Note) -> Hops:
    """The same where there are more hops than the first few counts have shown."""
    note("looking for the farthest pair")
    worst, before, powers = _farthest(step, target)
    width = -(-worst // _MOST_STEPS)
    note(f"counting the pairs up to {worst:,} hops apart")
    stride, edges = _power(powers, width, target), list(range(len(counts)))
    while edges[-1] < worst:
        reached = checked(stride @ reached)
        edges.append(min(edges[-1] + width, worst))
        counts.append(target.num_reached(reached))
    return _hops(edges, counts, reached, before, target)


def _farthest(step: Zones, target: Target) -> tuple[int, Zones, list[Zones]]:
    """The most hops of a pair; who is connected in one hop less; and `step ** 2 ** k`."""
    powers, counts = [step], [target.num_reached(step)]
    while len(counts) < 2 or counts[-1] != counts[-2]:
        powers.append(checked(powers[-1] @ powers[-1]))
        counts.append(target.num_reached(powers[-1]))
        if counts[-1] == target.total:
            break
    # The largest number of hops that does not yet connect all, bit by bit from the highest.
    fewer, before = 0, target.itself
    for bit in reversed(range(len(powers))):
        longer = checked(powers[bit] @ before)
        if target.num_reached(longer) < counts[-1]:
            fewer, before = fewer + (1 << bit), longer
    return fewer + 1, before, powers


def _power(powers: Sequence[Zones], exponent: int, target: Target) -> Zones:
    found = target.itself
    for bit, power in enumerate(powers):
        if exponent >> bit & 1:
            found = checked(power @ found)
    return found


def _hops(
    edges: Sequence[int], counts: Sequence[int], reached: Zones, before: Zones, target: Target
) -> Hops:
    """From the pairs connected within `edges[k]` hops, and the relations that differ by the worst.

    Where a bar stands for several hops, the mean is between what the ends of all bars would give.
    """
    total, connected, worst = target.total, counts[-1], edges[-1]
    steps, least, most = [], 0, 0
    for (below, edge), (fewer, pairs) in zip(pairwise(edges), pairwise(counts), strict=True):
        steps.append(Step.exact(below + 1, edge, pairs - fewer, total))
        least += (below + 1) * (pairs - fewer)
        most += edge * (pairs - fewer)
    low, high = (least / connected, most / connected) if connected else (None, None)
    return Hops(
        total=total,
        steps=tuple(steps),
        worst=worst or None,
        worst_at_most=worst or None,
        worst_pair=target.example(reached, before) if worst else None,
        mean=None if low is None or high is None else (low + high) / 2,
        mean_low=low,
        mean_high=high,
        unreachable=total - connected,
        unreachable_share=(total - connected) / total,
        unreachable_pair=pair_of(target.pairs - reached) if connected < total else None,
        method=METHOD,
    )


# --- stacks --------------------------------------------------------------------------------------


def hops_in_stack(stack: Stack, intended: Intended, note: Note) -> Hops:
    """Fewest reads on a route through all layers of a stack, in their order.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    target = Target(intended)
    if not target.total:
        return Hops.nothing(METHOD)
    within = within_hops(stack, target.itself, note)[-1]
    counts = [target.num_reached(one) for one in within]
    return _hops(range(len(within)), counts, within[-1], within[max(len(within) - 2, 0)], target)


def within_hops(stack: Stack, itself: Zones, note: Note = lambda _: None) -> list[list[Zones]]:
    """For 0, 1, 2, ... layers: who has learnt of whom by at most 0, 1, 2, ... reads.

    Before the first layer every position knows `itself`. A layer adds a read to what its keys knew
    before, or waits. Lists end where more reads bring nothing: what is beyond their end is like
    their last.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    within = [itself]
    found = [within]
    for number in range(stack.layers):
        note(f"composing layer {number + 1} of {stack.layers}")
        reads = stack.layer(number).zones
        longer = [
            checked(one | (reads @ fewer))
            for one, fewer in zip([*within[1:], within[-1]], within, strict=True)
        ]
        within = [within[0], *longer]
        while len(within) > 1 and within[-1].issubset(within[-2]):
            within.pop()
        found.append(within)
    return found


def coverage(stack: Stack, order: Sequence[int], intended: Intended, note: Note) -> Coverage:
    """What is connected after each layer of an order of kinds; of one kind, until nothing changes.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    target = Target(intended)
    steps = [target.with_self(kind.zones) for kind in stack.kinds]
    known = target.itself
    shares: list[float] = []
    fields: list[Spread] = []
    field: list[Spread] = []
    full_layer, connected, is_settled = None, 0, False
    num_known, holds_all = 0, intended.holds_all_reads
    for number, kind in enumerate(order):
        if not is_settled:
            note(f"composing layer {number + 1} of {len(order)}")
            known = checked(steps[kind] @ known)
            connected = target.num_reached(known)
            before, num_known = num_known, connected if holds_all else known.count()
            is_settled = stack.is_uniform and num_known == before
            # Where more may be learnt than is intended, fields go on growing.
            is_settled = is_settled or (holds_all and connected == target.total)
            field = _field(known)
        shares.append(connected / target.total if target.total else 1.0)
        if full_layer is None and connected == target.total:
            full_layer = number + 1
        if len(fields) < _MOST_FIELDS:
            fields += field
    missing = pair_of(target.pairs - known) if connected < target.total else None
    return Coverage(
        tuple(shares), tuple(shares), tuple(shares), full_layer, tuple(fields), METHOD, missing
    )


def leak(stack: Stack, intended: Intended) -> Pair | None:
    """Two tokens that are connected though they are in different documents, as over memory.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    target = Target(intended)
    steps = [target.with_self(kind.zones) for kind in stack.kinds]
    if stack.is_uniform:
        known, longer = steps[0], checked(steps[0] @ steps[0])
        while not longer.issubset(known):
            known, longer = longer, checked(longer @ longer)
    else:
        known = target.itself
        for kind in stack.order:
            known = checked(steps[kind] @ known)
    return pair_of(known - target.pairs - target.itself)


def _field(known: Zones) -> list[Spread]:
    try:
        return [Spread.of_rows(known)]
    except TooComplex:
        return []
