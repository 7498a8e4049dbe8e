"""Tiles: how much of the square a kernel touches when it works in tiles of tokens.

In closed form a tile is a pair of high digits. Digits do not interact within a box, so the tiles
that a box touches are what is left of it without its low digits:

>>> tiles_of(Zones.zone(0, 1024, d=(-100, 100)), 128).count()  # the diagonal, and one on each side
22
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from attnloom.compiler.analysis.figures import Method
from attnloom.compiler.analysis.stack import Layer, Stack, checked, leaves
from attnloom.compiler.analysis.table import Table
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.places import common_places, converted
from attnloom.compiler.regions import Boxes, Links, Region, either
from attnloom.compiler.regions.base import Either
from attnloom.compiler.runs import Ints
from attnloom.compiler.tiling import tile
from attnloom.compiler.zone_arrays import SIGNS
from attnloom.compiler.zone_simplify import simplified
from attnloom.compiler.zones import TooComplex, Zones

TILE = 128
"""Tokens on each side of a tile, as in the plans of the runtime."""

_MOST_CODES = 1 << 25


@dataclass(frozen=True)
class Tiles:
    """The tiles that hold a pair, of one layer if all are alike, else of all; over all heads.

    `waste` is the share by which the pairs of touched tiles exceed those that are read.
    """

    size: int
    touched: int
    total: int
    waste: float
    method: Method


def tiles(stack: Stack, reads: int, size: int = TILE) -> Tiles:
    """The tiles that a stack touches, given how many pairs it reads.

    Raises:
        TooLarge: they cannot be counted within the limits.
    """
    touched = []
    for kind in stack.kinds:
        heads = zip(kind.apart, kind.shares, strict=True)
        touched.append(sum(_touched(head, size) * share for head, share in heads))
    side = -(-stack.length // size)
    per_layer = side * side * stack.heads
    if stack.is_uniform:
        total, layers = touched[0], 1
    else:
        total, layers = sum(touched[kind] for kind in stack.order), stack.layers
    waste = total * size * size / reads - 1 if reads else 0.0
    return Tiles(size, total, per_layer * layers, waste, Method("tiles"))


def tiles_of(reads: Zones, size: int) -> Zones:
    """The pairs of tiles `(i // size, j // size)` that hold a pair; positions count from 0.

    Raises:
        TooComplex: the digits of the relation do not fit tiles of this size.
    """
    places = common_places(reads.places, (1, size)) if size > 1 else reads.places
    if size not in places:
        raise TooComplex(f"tiles of {size} do not fit places of {reads.places}")
    caps = converted(reads.boxes * SIGNS, reads.places, places)
    at = places.index(size)
    high = tuple(place // size for place in places[at:])
    boxes = simplified(caps[:, at:]) * SIGNS
    return checked(Zones(0, -(-reads.stop // size), high, boxes))


def tile_pairs(layer: Layer, size: int, most: int) -> tuple[Ints, Ints]:
    """The rows and columns of all tiles that hold a pair of what the heads read together.

    Raises:
        TooLarge: they are more than `most`.
    """
    side = -(-(layer.stop - layer.start) // size)
    codes = []
    try:
        closed, listed = _parts(layer)
        found = tiles_of(closed.shifted(-layer.start), size)
        if found.count() > most:
            raise TooLarge(f"{found.count():,} pairs of blocks, over {most:,}")
        table = Table.of(Boxes(found), 0, side)
        codes.append(table.pairs()[0] * side + table.pairs()[1])
        rest = Table.of(listed, layer.start, layer.stop) if listed is not None else None
    except TooComplex:
        rest = layer.tokens.table
    if rest is not None:
        codes.append(_listed_tiles(rest, size)[0])
    every = np.unique(np.concatenate(codes))
    if len(every) > most:
        raise TooLarge(f"{len(every):,} pairs of blocks, over {most:,}")
    return every // side, every % side


def _touched(head: Layer, size: int) -> int:
    """The tiles that one head touches."""
    try:
        closed, listed = _parts(head)
        found = tiles_of(closed.shifted(-head.start), size)
    except TooComplex:
        return _touched_by_rows(head, size)
    count = found.count()
    if listed is None:
        return count
    codes, side = _listed_tiles(Table.of(listed, head.start, head.stop), size)
    fresh = ~found.contains(codes // side, codes % side)
    return count + int(np.count_nonzero(fresh))


def _touched_by_rows(head: Layer, size: int) -> int:
    try:
        return len(_listed_tiles(head.tokens.table, size)[0])
    except TooLarge:
        return tile(head.region, head.start, head.stop, size, size).num_tiles


def _parts(head: Layer) -> tuple[Zones, Region | None]:
    """What a head reads as its closed form and what is listed."""
    region, start, stop = head.region, head.start, head.stop
    if head.has_zones:
        return head.zones, None
    parts = region.parts if isinstance(region, Either) else (region,)
    listed = [part for part in parts if any(isinstance(one, Links) for one in leaves(part))]
    if not listed:
        raise TooComplex("no closed form, and no links")
    others = [part.zones(start, stop) for part in parts if part not in listed]
    return checked(reduce(Zones.__or__, others, Zones.empty(start, stop))), either(*listed)


def _listed_tiles(table: Table, size: int) -> tuple[Ints, int]:
    """The tiles that the ranges of a table touch, as `row * side + column`, each once; the side."""
    side = -(-table.length // size)
    first, last = table.starts // size, (table.stops - 1) // size
    rows = table.rows // size
    counts = last - first + 1
    if int(counts.sum()) > _MOST_CODES:
        raise TooLarge(f"the links touch more than {_MOST_CODES:,} tiles")
    step = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    codes = np.sort(np.repeat(rows * side + first, counts) + step)
    return codes[np.diff(codes, prepend=-1) > 0], side
