"""A stack of layers at a length: what the heads of each layer read, each and together.

Heads of a layer are united, since their outputs are added to one state: a route may change heads
from layer to layer. Layers are in order, the lowest first. Those that read the same pairs are one
*kind*: the 26 layers of `gemma3` are of two kinds, and each is looked at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from attnloom.compiler.analysis.grain import Grain
from attnloom.compiler.analysis.quotient import quotient
from attnloom.compiler.bound import Bound
from attnloom.compiler.regions import Band, Bands, Links, Region, Rows, either, minus
from attnloom.compiler.regions.base import Either
from attnloom.compiler.tokens import TokenSet
from attnloom.compiler.zones import TooComplex, Zones

Binder = Callable[[int, int], Bound]
"""The pattern bound for a head in a layer, both from 0."""

MAX_BOXES = 2_000
"""Boxes of a closed form beyond which they are too many to compose."""

_FEW_BOXES = 64
_SHORT = 8192
"""Up to so many positions searching is quicker than composing more than a few boxes."""

_FEW_RUNS = 64

MAX_LISTED = 256
"""Links that are listed one by one beyond which no closed form is tried."""


@dataclass(frozen=True, eq=False)
class Removed:
    """Positions that are taken away: some tokens, and some memory tokens by their negative ones."""

    tokens: TokenSet
    memory: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens) + len(self.memory)

    def __or__(self, other: Removed) -> Removed:
        memory = tuple(sorted({*self.memory, *other.memory}))
        return Removed(self.tokens | other.tokens, memory)

    def __sub__(self, other: Removed) -> Removed:
        memory = tuple(sorted({*self.memory} - {*other.memory}))
        return Removed(self.tokens - other.tokens, memory)

    def positions(self, most: int) -> list[int]:
        """The first of them, memory first."""
        found = list(self.memory[:most])
        for start, stop in zip(*(ends.tolist() for ends in self.tokens.runs), strict=True):
            found += range(start, min(stop, start + most - len(found)))
            if len(found) >= most:
                break
        return found

    def rows(self, start: int, stop: int) -> Region:
        """All pairs within `start..stop` whose query is one of them."""
        starts, stops = (ends.tolist() for ends in self.tokens.runs)
        runs = _joined(self.memory)
        few = len(starts) <= _FEW_RUNS
        runs += zip(starts, stops, strict=True) if few else []
        bands = Bands.of(*(Band(a, b - 1, start, stop - 1) for a, b in runs))
        return bands if few else either(bands, Rows(self.tokens))

    def links(self, start: int, stop: int) -> Region:
        """All pairs within `start..stop` that have one of them at an end."""
        rows = self.rows(start, stop)
        return either(rows, rows.transposed())

    def in_blocks(self, size: int) -> Removed | None:
        """The blocks that they fill; `None` if they do not fill blocks."""
        starts, stops = self.tokens.runs
        length = self.tokens.length
        whole = (starts % size == 0).all() and ((stops % size == 0) | (stops == length)).all()
        if self.memory or not whole:
            return None
        blocks = TokenSet.of_runs(-(-length // size), starts // size, -(-stops // size))
        return Removed(blocks, ())


def _joined(positions: tuple[int, ...]) -> list[tuple[int, int]]:
    """Ascending positions as ranges.

    >>> _joined((-4, -3, -1))
    [(-4, -2), (-1, 0)]
    """
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return found


@dataclass(frozen=True, eq=False)
class Layer:
    """One kind of layer: its different heads, and how many heads are like each.

    `removed` are positions whose links have been taken away.
    """

    bounds: tuple[Bound, ...]
    shares: tuple[int, ...]
    removed: Removed | None = None

    @property
    def start(self) -> int:
        return -self.bounds[0].memory

    @property
    def stop(self) -> int:
        return self.bounds[0].tokens

    @cached_property
    def region(self) -> Region:
        """What any of its heads reads."""
        whole = either(*(bound.region for bound in self.bounds))
        if self.removed is None:
            return whole
        return _less(whole, self.removed.links(self.start, self.stop))

    @property
    def apart(self) -> tuple[Layer, ...]:
        """Its different heads, each as a layer by itself."""
        if len(self.bounds) == 1:
            return (self,)
        return tuple(Layer((bound,), (1,), self.removed) for bound in self.bounds)

    @cached_property
    def tokens(self) -> Grain:
        """What is read, token by token."""
        return Grain(self.region, self.start, self.stop, 1, self.stop - self.start)

    @cached_property
    def grain(self) -> Grain:
        """What is read, block by block if all heads are made of blocks of one size."""
        found = quotient(tuple(bound.relation for bound in self.bounds))
        if found is None or found[0] == 1:
            return self.tokens
        size, region = found
        count = -(-self.stop // size)
        if self.removed is not None:
            blocks = self.removed.in_blocks(size)
            if blocks is None:
                return self.tokens
            region = _less(region, blocks.links(0, count))
        return Grain(region, 0, count, size, self.stop)

    @cached_property
    def _closed_form(self) -> Zones | str:
        listed = sum(len(leaf.keys) for leaf in leaves(self.region) if isinstance(leaf, Links))
        if listed > MAX_LISTED:
            return f"{listed:,} links are listed one by one"
        try:
            found = checked(self.region.zones(self.start, self.stop).simplify())
            if found.num_boxes > _FEW_BOXES and self.stop - self.start <= _SHORT:
                return f"a closed form of {found.num_boxes:,} boxes, slower than searching"
            return found
        except TooComplex as error:
            return str(error)

    @property
    def has_zones(self) -> bool:
        return isinstance(self._closed_form, Zones)

    @property
    def zones(self) -> Zones:
        """The closed form of what its heads read together.

        Raises:
            TooComplex: it has too many pieces, or none is known.
        """
        if isinstance(self._closed_form, str):
            raise TooComplex(self._closed_form)
        return self._closed_form


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers in order, the lowest first; `order` names the kind of each.

    `is_counted` says whether a number of layers was asked for. If not, the one kind that there is
    stands for as many layers as are needed.
    """

    name: str
    tokens: int
    memory: int
    heads: int
    kinds: tuple[Layer, ...]
    order: tuple[int, ...]
    is_counted: bool

    @classmethod
    def of(
        cls,
        bind: Binder,
        *,
        heads: int = 1,
        layers: int | None = None,
        varies_by_head: bool = True,
        varies_by_layer: bool = True,
    ) -> Stack:
        """Bind every head of every layer that may differ."""
        kinds: list[Layer] = []
        order: list[int] = []
        known: dict[Hashable, int] = {}
        for layer in range(layers or 1):
            if layer and not varies_by_layer:
                order.append(0)
                continue
            different: dict[Hashable, list[Bound]] = {}
            for head in range(heads if varies_by_head else 1):
                bound = bind(head, layer)
                different.setdefault(fingerprint(bound.region), []).append(bound)
            # Heads that are never bound are like the only one that is.
            factor = 1 if varies_by_head else heads
            shares = tuple(len(alike) * factor for alike in different.values())
            name = (tuple(different), shares)
            if name not in known:
                known[name] = len(kinds)
                kinds.append(Layer(tuple(alike[0] for alike in different.values()), shares))
            order.append(known[name])
        first = kinds[0].bounds[0]
        return cls(
            first.name, first.tokens, first.memory, heads, tuple(kinds), tuple(order),
            layers is not None,
        )  # fmt: skip

    def without(self, removed: Removed) -> Stack:
        """The same with some positions taken away, beside those that are gone already."""
        kinds = tuple(
            replace(kind, removed=removed if kind.removed is None else kind.removed | removed)
            for kind in self.kinds
        )
        return replace(self, kinds=kinds)

    @property
    def start(self) -> int:
        """The first position; memory tokens stand at negative ones."""
        return -self.memory

    @property
    def stop(self) -> int:
        return self.tokens

    @property
    def length(self) -> int:
        return self.tokens + self.memory

    @property
    def layers(self) -> int:
        return len(self.order)

    @property
    def is_uniform(self) -> bool:
        """Whether all layers are of one kind."""
        return len(self.kinds) == 1

    @property
    def has_zones(self) -> bool:
        return all(kind.has_zones for kind in self.kinds)

    def layer(self, number: int) -> Layer:
        """The layer of a number, from 0, the lowest."""
        return self.kinds[self.order[number]]

    def layers_of(self, kind: int) -> tuple[int, ...]:
        """The numbers of the layers of a kind."""
        return tuple(number for number, one in enumerate(self.order) if one == kind)

    def name_of(self, position: int) -> int | str:
        """How a report calls a position: a token by its number, memory `m0`, `m1` and so on.

        >>> Stack("p", 8, 2, 1, (), (), False).name_of(-1)
        'm1'
        """
        return position if position >= 0 else f"m{position + self.memory}"


def _less(region: Region, taken: Region) -> Region:
    """The difference, part by part, so that parts with a closed form keep one."""
    parts = region.parts if isinstance(region, Either) else (region,)
    return either(*(minus(part, taken) for part in parts))


def checked(zones: Zones) -> Zones:
    """The same zones.

    Raises:
        TooComplex: they are too many to compose quickly.
    """
    if zones.num_boxes > MAX_BOXES:
        raise TooComplex(f"a closed form of {zones.num_boxes:,} boxes, over {MAX_BOXES:,}")
    return zones


def leaves(region: Region) -> Iterator[Region]:
    """The regions without parts that a region is made of."""
    if not region.parts:
        yield region
    for part in region.parts:
        yield from leaves(part)


def fingerprint(value: object) -> Hashable:
    """A name that equal regions share: their class and what it holds, arrays by a digest.

    >>> from attnloom.compiler.regions import Band, Bands
    >>> fingerprint(Bands.of(Band(d1=0, d2=9))) == fingerprint(Bands.of(Band(d1=0, d2=9)))
    True
    """
    if isinstance(value, np.ndarray):
        plain = np.ascontiguousarray(value)
        return str(plain.dtype), plain.shape, hashlib.sha256(plain.data).digest()
    if isinstance(value, TokenSet):
        return "TokenSet", value.length, fingerprint(value.stretches or value.runs)
    if isinstance(value, (tuple, list)):
        return tuple(map(fingerprint, value))
    if isinstance(value, Mapping):
        return tuple((key, fingerprint(one)) for key, one in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (one.name for one in dataclasses.fields(value) if one.init)
        return type(value).__name__, *(fingerprint(getattr(value, name)) for name in fields)
    if isinstance(value, Hashable):
        return value
    raise TypeError(f"{type(value).__name__} has no fingerprint")
