"""Work: how many pairs a kernel computes, and how they are spread over queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

from attnloom.compiler.analysis.figures import Method
from attnloom.compiler.analysis.spread import Spread
from attnloom.compiler.analysis.stack import Layer, Stack
from attnloom.compiler.counting import count
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.zones import TooComplex


@dataclass(frozen=True)
class EmptyRow:
    """A query that reads no key: the softmax over nothing is not defined."""

    query: int
    layer: int
    num_queries: int | None
    """Queries of that head of that layer that read nothing; `None` where they are too many to look
    at one by one."""


@dataclass(frozen=True)
class LayerWork:
    """The work of the layers of one kind, each: `reads` over all of its heads.

    `per_query` and `per_key` count what the heads read together, `None` where that is too much to
    look at one by one.
    """

    layers: tuple[int, ...]
    reads: int
    pairs: int
    per_query: Spread | None
    per_key: Spread | None
    empty_row: EmptyRow | None
    method: Method

    @property
    def density(self) -> float:
        return self.reads / self.pairs


@dataclass(frozen=True)
class Work:
    """The work of a stack: of one layer where all are alike, else of all layers together.

    `reads` counts what kernels compute, so a token that reads itself counts too.
    """

    kinds: tuple[LayerWork, ...]
    layers: int
    heads: int
    reads: int
    pairs: int

    @property
    def density(self) -> float:
        return self.reads / self.pairs

    @property
    def per_query(self) -> Spread | None:
        """How many keys a query reads, in the kind of layer where one reads most."""
        return _widest([kind.per_query for kind in self.kinds])

    @property
    def per_key(self) -> Spread | None:
        """By how many queries a key is read, in the kind of layer where one is read most."""
        return _widest([kind.per_key for kind in self.kinds])

    @property
    def empty_row(self) -> EmptyRow | None:
        """A query that reads nothing, in the lowest layer that has one."""
        found = [kind.empty_row for kind in self.kinds if kind.empty_row is not None]
        return min(found, key=lambda one: one.layer, default=None)


def work(stack: Stack) -> Work:
    """The work of a stack.

    Raises:
        TooLarge: it has no closed form and the sequence is too long to count.
    """
    kinds = []
    for number, kind in enumerate(stack.kinds):
        kinds.append(_layer_work(kind, stack.layers_of(number), stack.heads))
    if len(kinds) == 1:
        return Work((kinds[0],), 1, stack.heads, kinds[0].reads, kinds[0].pairs)
    reads = sum(kind.reads * len(kind.layers) for kind in kinds)
    pairs = sum(kind.pairs * len(kind.layers) for kind in kinds)
    return Work(tuple(kinds), stack.layers, stack.heads, reads, pairs)


def num_reads(stack: Stack) -> int:
    """The reads of a stack alone; see `Work`.

    Raises:
        TooLarge: it has no closed form and the sequence is too long to count.
    """
    each = []
    for kind in stack.kinds:
        heads = zip(kind.apart, kind.shares, strict=True)
        each.append(sum(_num_reads(head) * share for head, share in heads))
    return each[0] if stack.is_uniform else sum(each[kind] for kind in stack.order)


def _num_reads(head: Layer) -> int:
    if head.has_zones:
        return head.zones.count()
    grain = head.grain
    try:
        return int((grain.table.row_totals(grain.weights) * grain.weights).sum())
    except TooLarge:
        return count(head.region, head.start, head.stop)


def _layer_work(layer: Layer, numbers: tuple[int, ...], heads: int) -> LayerWork:
    size = layer.stop - layer.start
    found = [_rows(head) for head in layer.apart]
    reads = sum(total * share for (total, *_), share in zip(found, layer.shares, strict=True))
    silent = (one for _, one, _ in found if one is not None and one.least == 0)
    first = next(silent, None) if layer.removed is None else None
    empty = None if first is None else EmptyRow(first.at_least, numbers[0], first.num_zero)
    _, per_query, per_key = found[0] if len(found) == 1 else _rows(layer)
    engine = "zones" if layer.has_zones else "blocks" if layer.grain.block > 1 else "rows"
    return LayerWork(
        numbers, reads, size * size * heads, per_query, per_key, empty,
        Method(engine if per_query is not None else "tiles"),
    )  # fmt: skip


def _rows(layer: Layer) -> tuple[int, Spread | None, Spread | None]:
    """The pairs of a layer, and their spreads over queries and over keys."""
    if layer.has_zones:
        zones = layer.zones
        try:
            return zones.count(), Spread.of_rows(zones), Spread.of_rows(zones.transpose())
        except TooComplex:
            return zones.count(), None, None
    grain = layer.grain
    try:
        per_query = grain.per_token(grain.table.row_totals(grain.weights))
        per_key = grain.per_token(grain.table.key_totals(grain.weights))
    except TooLarge:
        return count(layer.region, layer.start, layer.stop), None, None
    return (
        int(per_query.sum()),
        Spread.of_counts(per_query, layer.start),
        Spread.of_counts(per_key, layer.start),
    )


def _widest(spreads: list[Spread | None]) -> Spread | None:
    """The spread with the largest number; `None` if one is not known."""
    known = [one for one in spreads if one is not None]
    return max(known, key=lambda one: one.most) if len(known) == len(spreads) else None
