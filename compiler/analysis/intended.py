"""Intended pairs: which queries are meant to learn of which keys.

In both directions all pairs of different tokens are meant to meet; in a causal pattern those whose
key comes first; where all links keep to documents, as by `only same(doc)`, those of one document.
A pattern may be causal but for stretches in which tokens also read ahead, as a prefix does: then
what they read ahead is meant to meet too. Averages and shares are over intended pairs alone. A pair
outside of them is *forbidden*, which is not the same as unreachable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from attnloom.compiler.analysis.grain import Grain
from attnloom.compiler.analysis.stack import Layer, Removed, Stack
from attnloom.compiler.bound import Bound
from attnloom.compiler.counting import count
from attnloom.compiler.primitives.given import Same as SameDocument
from attnloom.compiler.regions import Band, Bands, Boxes, Links, Region, Same, both, either, minus
from attnloom.compiler.regions.base import Both, Either, Minus, Nothing
from attnloom.compiler.relation import Leaf, OfBlocks, Relation, WithMemory
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import TooComplex, Zones


@dataclass(frozen=True, eq=False)
class Intended:
    """The pairs of different positions that are meant to meet, query first.

    `block` is 1 but for patterns that are causal by blocks: then the tokens of a block may all
    read each other, and those of earlier blocks. `reads_ahead` tells of patterns that are causal
    but for what some tokens read ahead of them.
    """

    region: Region
    start: int
    stop: int
    is_causal: bool
    reads_ahead: bool
    block: int
    documents: Ints | None
    has_silent_memory: bool
    removed: Removed | None = None

    def without(self, removed: Removed) -> Intended:
        """The pairs of other positions than those that are taken away."""
        region = minus(self.region, removed.links(self.start, self.stop))
        gone = removed if self.removed is None else self.removed | removed
        return replace(self, region=region, removed=gone)

    @cached_property
    def total(self) -> int:
        """How many pairs are intended."""
        return count(self.region, self.start, self.stop)

    @cached_property
    def zones(self) -> Zones:
        """Their closed form.

        Raises:
            TooComplex: it has too many pieces.
        """
        return self.region.zones(self.start, self.stop)

    @property
    def num_positions(self) -> int:
        """How many positions there are, without those that are taken away."""
        return self.stop - self.start - (len(self.removed) if self.removed else 0)

    @property
    def holds_all_reads(self) -> bool:
        """Whether whatever is learnt over any number of layers is intended, itself left out.

        So it is without documents and memory that is silent: what lies before a token stays before
        it from layer to layer.
        """
        return self.documents is None and not self.has_silent_memory

    def per_query(self, rows: Ints) -> Ints:
        """How many keys each of some queries is meant to learn of."""
        return self.region.runs(rows).lengths()

    def per_key(self, keys: Ints) -> Ints:
        """How many queries are meant to learn of each of some keys."""
        return self.region.transposed().runs(keys).lengths()


def intended(stack: Stack) -> Intended:
    """The intended pairs of a stack, read off what its layers allow."""
    block = next((size for size in _sizes(stack) if _has_direction(stack, size)), 0)
    start, stop = stack.start, stack.stop
    silent = _silent(stack)
    first_query = 0 if silent[0] else start
    first_key = 0 if silent[1] else start
    span = {"i1": first_query, "i2": stop - 1, "j1": first_key, "j2": stop - 1}
    before, after = Band(**span, d1=1), Band(**span, d2=-1)
    ahead = _ahead(stack) if not block else None
    region: Region = Bands.of(before) if block or ahead else Bands.of(before, after)
    if ahead:
        region = both(either(region, Boxes(ahead)), Bands.of(before, after))
    if block > 1:
        own = both(Bands((Band(d1=0, d2=0),), block), Bands.of(after))
        region = either(region, own)
    documents = _documents(stack)
    if documents is not None:
        parts = [both(region, Same.of(documents))]
        if stack.memory:
            with_memory = Bands.of(
                Band(start, -1, start, stop - 1), Band(start, stop - 1, start, -1)
            )
            parts.append(both(region, with_memory))
        region = either(*parts)
    has_ahead = ahead is not None
    return Intended(
        region, start, stop, block > 0, has_ahead, max(block, 1), documents, any(silent)
    )


def _ahead(stack: Stack) -> Zones | None:
    """What is read ahead in a pattern that is causal but for that, as in a prefix.

    So it is if all that lies before a token and what it reads ahead is all it can ever learn of.
    Stretches of which each reads itself alone, forwards and backwards, have no direction.
    """
    try:
        reads = reduce(Zones.__or__, (kind.zones for kind in stack.kinds))
        ahead = reads & Zones.zone(stack.start, stack.stop, d=(-stack.length, -1))
        known = ahead | Zones.zone(stack.start, stack.stop, d=(0, stack.length))
        if (reads - known.transpose()).is_empty() or not (known @ known).issubset(known):
            return None
    except TooComplex:
        return None
    return ahead


def _has_direction(stack: Stack, block: int) -> bool:
    """Whether information only goes from earlier to later blocks, and does go.

    Blocks of which each reads itself alone have no direction.
    """
    if not is_causal(stack, block):
        return False
    return block == 1 or any(_goes_back(kind, block) for kind in stack.kinds)


def is_causal(stack: Stack, block: int = 1) -> bool:
    """Whether no query reads a key of a later block; blocks of one token are tokens."""
    return all(_keeps_back(kind, block) for kind in stack.kinds)


def _keeps_back(layer: Layer, block: int) -> bool:
    """Whether no pair of a layer has a key in a block after that of the query."""
    if layer.has_zones:
        return not layer.zones & Bands((Band(d2=-1),), block).zones(layer.start, layer.stop)
    found = _is_before(layer.region, layer, block)
    if found is None:
        (first, _), (_, last) = _ends(layer.grain)
        found = bool((last // block <= first // block).all())
    return found


def _goes_back(layer: Layer, block: int) -> bool:
    """Whether some pair of a layer has a key in a block before that of the query."""
    try:
        return bool(layer.zones & Bands((Band(d1=1),), block).zones(layer.start, layer.stop))
    except TooComplex:
        (_, last), (first, _) = _ends(layer.grain)
        return bool((first // block < last // block).any())


def _ends(grain: Grain) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """The first and the last query of every range of a table, and its first and last key."""
    table, size = grain.table, grain.block
    queries, keys, stops = (
        (one + grain.start) * size for one in (table.rows, table.starts, table.stops)
    )
    end = grain.stop if size == 1 else grain.tokens
    last = np.minimum(queries + size, end) - 1
    return (queries, last), (keys, np.minimum(stops, end) - 1)


def _is_before(region: Region, layer: Layer, block: int) -> bool | None:
    """The same for a part that may list links; `None` if that is not easy to say."""
    match region:
        case Nothing():
            return True
        case Either(parts=parts):
            found = [_is_before(part, layer, block) for part in parts]
            return False if False in found else None if None in found else True
        case Both(parts=parts):
            return any(_is_before(part, layer, block) for part in parts) or None
        case Minus(part=part):
            return _is_before(part, layer, block) or None
        case Links() if block % region.block == 0:
            size = block // region.block
            return bool((region.keys // size <= region.rows // size).all())
        case Bands():
            after = Bands((Band(d2=-1),), block).zones(layer.start, layer.stop)
            return (region.zones(layer.start, layer.stop) & after).is_empty()
    return None


def _sizes(stack: Stack) -> list[int]:
    """Tokens, and the sizes of the blocks that the pattern speaks of."""
    found = {
        relation.size
        for bound in _bounds(stack)
        for relation in _within(bound.relation)
        if isinstance(relation, OfBlocks)
    }
    return [1, *sorted(found - {1})]


def _bounds(stack: Stack) -> Iterator[Bound]:
    for kind in stack.kinds:
        yield from kind.bounds


def _within(relation: Relation) -> Iterator[Relation]:
    yield relation
    for child in relation.children:
        yield from _within(child)


def _silent(stack: Stack) -> tuple[bool, bool]:
    """Whether memory never reads, and whether it is never read, in any layer."""
    memories = [
        bound.relation for bound in _bounds(stack) if isinstance(bound.relation, WithMemory)
    ]
    if not memories:
        return False, False
    return not any(one.reads for one in memories), not any(one.is_read for one in memories)


def _documents(stack: Stack) -> Ints | None:
    """The ids of the documents to which all links of all layers keep, by the inputs they use."""
    used: list[Ints] = []
    for bound in _bounds(stack):
        for relation in _within(bound.relation):
            if isinstance(relation, Leaf) and isinstance(relation.primitive, SameDocument):
                ids = relation.primitive.segments
                if len(ids) == stack.tokens and not any(np.array_equal(ids, one) for one in used):
                    used.append(ids)
    kept = [ids for ids in used if all(_stays_within(kind, ids) for kind in stack.kinds)]
    if not kept:
        return None
    # Several inputs together: the same document is the same id in each.
    table = np.stack(kept, axis=1)
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _stays_within(layer: Layer, ids: Ints) -> bool:
    """Whether two tokens of which one reads the other always have the same id."""
    try:
        documents = Same.of(ids).zones(layer.start, layer.stop)
        tokens = Zones.zone(layer.start, layer.stop, i=(0, layer.stop), j=(0, layer.stop))
        return (layer.zones & tokens).issubset(documents)
    except TooComplex:
        table = layer.tokens.table
        first, last = table.starts + layer.start, table.stops + layer.start - 1
        queries = table.rows + layer.start
        some = (queries >= 0) & (last >= 0)
        first, last, queries = np.maximum(first[some], 0), last[some], queries[some]
        changes = np.concatenate([[0], np.cumsum(ids[1:] != ids[:-1])])
        return bool(((ids[first] == ids[queries]) & (changes[first] == changes[last])).all())
