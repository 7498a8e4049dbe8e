"""order: work on positions in a sequence in which what is read lies together.

Dilated windows and strides are dense among positions of one residue; neighbourhoods in a grid are
dense among tiles of cells. Candidates come from the digits in which the pattern is written. Each is
judged by the tiles that some sampled rows would compute, in the cost model; parts of a union may go
different ways, and are then worked on one after the other and joined.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnloom.compiler.limits import TooLarge
from attnloom.compiler.orders import Order, digit_order, reordered
from attnloom.compiler.passes.draft import Draft, DraftPart
from attnloom.compiler.places import Places
from attnloom.compiler.regions import (
    EMPTY,
    FULL,
    Bands,
    Boxes,
    Region,
    Tiles,
    both,
    either,
    minus,
)
from attnloom.compiler.regions.base import Both, Either, Minus
from attnloom.compiler.zones import TooComplex

_SAMPLE_LENGTH = 1 << 16
"""Positions of the shorter sequence on which candidates are judged."""

_SAMPLE_ROWS = 24
_GAIN = 0.9
"""A candidate must cost less than this share of working in sequence."""

_MOST_DIGITS = 3


@dataclass(frozen=True)
class Candidate:
    """A way to sort the positions of any range."""

    name: str
    build: Callable[[int, int, int], Order]
    """From start, stop and tile size."""


Groups = list[tuple[Candidate | None, list[Region]]]
"""Which parts of a union are worked on in which order, `None` being in sequence."""


def order(draft: Draft) -> Draft:
    """The parts of a region, each in the order in which it costs least."""
    atoms = _atoms(draft.region)
    lists = [one for one in atoms if one.listed(draft.block_m, draft.block_n, 0) is not None]
    atoms = [one for one in atoms if one not in lists]
    candidates = list(_candidates(atoms, draft))
    if not candidates:
        return draft
    costs = _Costs(draft, candidates)
    groups = _cheapest(atoms, candidates, costs)
    if groups is None:
        return draft
    try:
        return replace(draft, parts=_parts(groups, lists, draft))
    except (TooComplex, TooLarge):  # what is taken from a part may have no form of its own
        return draft


def _parts(groups: Groups, lists: list[Region], draft: Draft) -> tuple[DraftPart, ...]:
    parts: list[DraftPart] = []
    before: list[Region] = []
    for candidate, members in groups:
        region = either(*members)
        if before:
            region = minus(region, either(*before))
        before += members
        parts.append(_part(region, candidate, draft))
    if lists:
        region = either(*lists)
        parts.append(DraftPart(minus(region, either(*before))))
    return tuple(parts)


def _part(region: Region, candidate: Candidate | None, draft: Draft) -> DraftPart:
    if candidate is None:
        return DraftPart(region)
    found = replace(candidate.build(draft.start, draft.stop, draft.block_m), name=candidate.name)
    return DraftPart(reordered(region, found), found)


def _atoms(region: Region) -> list[Region]:
    """The parts of a union, as far as it can be taken apart."""
    match region:
        case Either(parts=parts):
            return [atom for part in parts for atom in _atoms(part)]
        case Minus(part=part, taken=taken):
            return [minus(atom, taken) for atom in _atoms(part)]
        case Both(parts=parts):
            unions = [part for part in parts if isinstance(part, Either)]
            if len(unions) == 1:
                others = [part for part in parts if part is not unions[0]]
                return [both(atom, *others) for atom in _atoms(unions[0])]
            return [region]
        case Bands(bands=bands, block=block):
            steps = dict.fromkeys(band.step for band in bands)
            return [
                Bands(tuple(band for band in bands if band.step == step), block) for step in steps
            ]
    return [region]


# --- candidates ----------------------------------------------------------------------------------


def _candidates(atoms: Sequence[Region], draft: Draft) -> Iterator[Candidate]:
    seen: set[tuple[object, ...]] = set()
    for atom in atoms:
        for places, is_grid in _structures(atom):
            if places in seen or len(places) > _MOST_DIGITS:
                continue
            seen.add(places)
            if places[-1] >= draft.stop - draft.start:
                continue
            yield from _digit_orders(places)
            if is_grid:
                yield from _tile_orders(places, draft)


def _structures(region: Region) -> Iterator[tuple[Places, bool]]:
    """The places in which a region is written, and whether they are those of a grid."""
    match region:
        case Bands(bands=bands, block=1) if bands and bands[0].step > 1:
            yield (1, bands[0].step), False
        case Boxes(form=form) if len(form.places) > 1:
            yield form.places, True
    for part in region.parts:
        yield from _structures(part)


def _digit_orders(places: Places) -> Iterator[Candidate]:
    """All ways to sort by the digits but the one that is the sequence itself."""
    digits = range(len(places))
    natural = tuple(reversed(digits))
    for significance in itertools.permutations(digits):
        if significance == natural:
            continue
        name = f"digits {','.join(map(str, significance))} of {','.join(map(str, places))}"
        if len(places) == 2:
            name = f"residues of {places[1]}"

        def build(
            start: int, stop: int, tile: int, chosen: tuple[int, ...] = significance
        ) -> Order:
            return digit_order("", start, stop, places, chosen, len(places) - 1, tile)

        yield Candidate(name, build)


def _tile_orders(places: Places, draft: Draft) -> Iterator[Candidate]:
    """Tiles of cells, each with about as many as a tile has rows."""
    size = draft.block_m
    extents = [b // a for a, b in itertools.pairwise(places)]
    extents.append(-(-(draft.stop - draft.start) // places[-1]))
    for shape in _tile_shapes(len(places), size):
        if any(side > extent for side, extent in zip(shape, extents, strict=True)):
            continue

        def build(start: int, stop: int, tile: int, sides: Sequence[int] = shape) -> Order:
            return _tiles_of_cells(start, stop, places, sides, tile)

        name = f"tiles of {'x'.join(map(str, reversed(shape)))} cells"
        yield Candidate(name, build)


def _tile_shapes(axes: int, size: int) -> Iterator[tuple[int, ...]]:
    """Sides of tiles, fastest axis first, of nearly equal length, with `size` cells in all."""
    bits = size.bit_length() - 1
    if size != 1 << bits:
        return
    even = [bits // axes + (t < bits % axes) for t in range(axes)]
    shapes = {tuple(one) for one in itertools.permutations(even)}
    for t in range(axes):
        longer = [one - 1 for one in even]
        longer[t] += axes
        if min(longer) >= 0 and sum(longer) == bits:
            shapes.add(tuple(longer))
    for shape in sorted(shapes):
        yield tuple(1 << one for one in shape)


def _tiles_of_cells(
    start: int, stop: int, places: Places, sides: Sequence[int], tile: int
) -> Order:
    positions = np.arange(start, stop, dtype=np.int64)
    group = np.zeros(len(positions), dtype=np.int64)
    for t in reversed(range(len(places))):
        digit = positions // places[t]
        if t + 1 < len(places):
            digit = digit % (places[t + 1] // places[t])
        cell = digit // sides[t]
        cell = cell - cell.min()
        group = group * (int(cell.max()) + 1) + cell
    _, names = np.unique(group, return_inverse=True)
    return Order.of_groups("", start, stop, names.reshape(-1), tile)


# --- choosing ------------------------------------------------------------------------------------


class _Costs:
    """The cost of a row of tiles, on average, of regions in orders; each is judged once."""

    def __init__(self, draft: Draft, candidates: Sequence[Candidate]) -> None:
        self._draft = draft
        self._stop = min(draft.stop, draft.start + _SAMPLE_LENGTH)
        self._orders: dict[str, Order] = {}
        self._known: dict[tuple[int, str], float] = {}
        self._kept: list[Region] = []
        for one in candidates:
            self._orders[one.name] = one.build(draft.start, self._stop, draft.block_m)

    def of(self, region: Region, candidate: Candidate | None) -> float:
        """The cost of all rows of the whole sequence, relative to their number in sequence."""
        name = (id(region), candidate.name if candidate else "")
        if name not in self._known:
            self._kept.append(region)  # so that its id stays its own
            try:
                self._known[name] = self._judged(region, candidate)
            except (TooComplex, TooLarge):
                self._known[name] = math.inf
        return self._known[name]

    def _judged(self, region: Region, candidate: Candidate | None) -> float:
        draft = self._draft
        model = draft.model
        start, length = draft.start, self._stop - draft.start
        stretched = 1.0
        if candidate is not None:
            order = self._orders[candidate.name]
            region = reordered(region, order)
            start, stretched = 0, order.length / length
            length = order.length
        rows = -(-length // draft.block_m)
        chosen = np.unique(np.linspace(0, rows - 1, _SAMPLE_ROWS).round().astype(np.int64))
        columns = np.arange(-(-length // draft.block_n))
        tiles = Tiles(
            np.repeat(chosen, len(columns)) * draft.block_m + start,
            np.tile(columns, len(chosen)) * draft.block_n + start,
            draft.block_m,
            draft.block_n,
            start,
        )
        kinds = region.classify(tiles)
        full, some = np.count_nonzero(kinds == FULL), np.count_nonzero(kinds != EMPTY)
        cost = (full + model.partial * (some - full)) / len(chosen)
        if candidate is not None:
            cost += model.reorder
        return (cost + model.item) * stretched


def _cheapest(
    atoms: Sequence[Region], candidates: Sequence[Candidate], costs: _Costs
) -> Groups | None:
    """Which atoms go in which order; `None` if all stay in sequence."""
    whole = either(*atoms)
    plain = costs.of(whole, None)
    best: Groups | None = None
    least = plain * _GAIN
    for candidate in candidates:
        cost = costs.of(whole, candidate)
        if cost < least:
            best, least = [(candidate, list(atoms))], cost
    if len(atoms) > 1:
        groups: dict[str, tuple[Candidate | None, list[Region]]] = {}
        for atom in atoms:
            choice: Candidate | None = None
            lowest = costs.of(atom, None) * _GAIN
            for candidate in candidates:
                cost = costs.of(atom, candidate)
                if cost < lowest:
                    choice, lowest = candidate, cost
            groups.setdefault(choice.name if choice else "", (choice, []))[1].append(atom)
        split = list(groups.values())
        if len(split) > 1:
            cost = sum(costs.of(either(*members), choice) for choice, members in split)
            cost += costs._draft.model.merge * (len(split) - 1)
            if cost < least:
                # In sequence first: what the others have in common with it is taken from them.
                best = sorted(split, key=lambda one: one[0] is not None)
    return best
