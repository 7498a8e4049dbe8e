"""Hops and coverage in closed form: layers are composed as zones, at any length.

With `R` what a layer reads or is, `R @ R` is what two layers let through, and the number of pairs
in `R ** h` that are not in `R ** (h - 1)` is the number of pairs that are `h` hops apart:

>>> window = Zones.zone(0, 10**9, d=(0, 4095))
>>> two_layers = window @ window
>>> two_layers.row(10**6), (two_layers - window).row(10**6)
([(991810, 1000001)], [(991810, 995905)])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise

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


def growth(reads: Zones) -> Iterator[Zones]:
    """Who has learnt of whom after 1, 2, 3, ... layers of one kind, itself included."""
    step = with_self(reads)
    reached = step
    while True:
        yield reached
        reached = checked(step @ reached)


def with_self(reads: Zones) -> Zones:
    """The same with every position reading itself: what it knows stays with it."""
    diagonal = Zones.zone(reads.start, reads.stop, d=(0, 0))
    return checked((reads | diagonal).simplify())


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

    def num_reached(self, reached: Zones) -> int:
        """How many intended pairs are in a relation that holds all pairs of a position with itself.

        Where the layers connect nothing that is not intended, it needs no intersection.
        """
        if self.intended.holds_all_reads:
            return reached.count() - (reached.stop - reached.start)
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
    reached = [Zones.zone(reads.start, reads.stop, d=(0, 0))]
    counts = [0]
    for one in islice(growth(reads), _FEW_HOPS):
        reached.append(one)
        counts.append(target.num_reached(one))
        if counts[-1] in (counts[-2], target.total):
            break
    else:
        return _many_hops(with_self(reads), target, reached[-1], counts, note)
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
    worst, _, powers = _farthest(with_self(reads), target)
    return Bound(worst, target.num_reached(powers[-1]) == target.total)


def _many_hops(step: Zones, target: Target, reached: Zones, counts: list[int], note: Note) -> Hops:
    """The same where there are more hops than the first few counts have shown."""
    note("looking for the farthest pair")
    worst, before, powers = _farthest(step, target)
    width = -(-worst // _MOST_STEPS)
    note(f"counting the pairs up to {worst:,} hops apart")
    stride, edges = _power(powers, width), list(range(len(counts)))
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
    fewer, before = 0, Zones.zone(step.start, step.stop, d=(0, 0))
    for bit in reversed(range(len(powers))):
        longer = checked(powers[bit] @ before)
        if target.num_reached(longer) < counts[-1]:
            fewer, before = fewer + (1 << bit), longer
    return fewer + 1, before, powers


def _power(powers: Sequence[Zones], exponent: int) -> Zones:
    found = Zones.zone(powers[0].start, powers[0].stop, d=(0, 0))
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
    within = within_hops(stack, note)[-1]
    counts = [target.num_reached(one) for one in within]
    return _hops(range(len(within)), counts, within[-1], within[max(len(within) - 2, 0)], target)


def within_hops(stack: Stack, note: Note = lambda _: None) -> list[list[Zones]]:
    """For 0, 1, 2, ... layers: who has learnt of whom by at most 0, 1, 2, ... reads.

    A layer adds a read to what its keys knew before, or waits. Lists end where more reads bring
    nothing: what is beyond their end is like their last.

    Raises:
        TooComplex: the closed form has too many pieces.
    """
    within = [Zones.zone(stack.start, stack.stop, d=(0, 0))]
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
    steps = [with_self(kind.zones) for kind in stack.kinds]
    known = Zones.zone(stack.start, stack.stop, d=(0, 0))
    shares: list[float] = []
    fields: list[Spread] = []
    field: list[Spread] = []
    full_layer, connected, is_settled = None, 0, False
    for number, kind in enumerate(order):
        if not is_settled:
            note(f"composing layer {number + 1} of {len(order)}")
            known = checked(steps[kind] @ known)
            before, connected = connected, target.num_reached(known)
            is_settled = connected == target.total or (stack.is_uniform and connected == before)
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


def _field(known: Zones) -> list[Spread]:
    try:
        return [Spread.of_rows(known)]
    except TooComplex:
        return []
