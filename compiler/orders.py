"""Orders: the sequence in which positions are worked on, so that what is read lies together.

An order fills places with positions, whole tiles at a time: each group of positions starts at a
multiple of the tile, and places that are left over are empty. In the order "residues of 8" all
positions with `p % 8 == 0` come first, then those with `p % 8 == 1`, and so on, so that a window
dilated by 8 is a plain window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnloom.compiler.places import Places, digits_of
from attnloom.compiler.regions import (
    EMPTY,
    FULL,
    MIXED,
    Boxes,
    Columns,
    Condition,
    Links,
    Nothing,
    Region,
    Rows,
    Same,
    Tiles,
)
from attnloom.compiler.regions.base import Bools, Both, Bytes, Either, Kinds, Minus
from attnloom.compiler.runs import Ints, Runs
from attnloom.compiler.tokens import TokenSet
from attnloom.compiler.zones import TooComplex, Zones

NO_TOKEN = -(1 << 40)
"""The position at an empty place."""


@dataclass(frozen=True, eq=False)
class Order:
    """Which position stands at each place.

    Shapes:
        positions: int64 `(length,)`, each position of `start..stop` once, and `NO_TOKEN`
    """

    name: str
    start: int
    stop: int
    positions: Ints

    @property
    def length(self) -> int:
        """Places, the empty ones included."""
        return len(self.positions)

    @cached_property
    def places(self) -> Ints:
        """The place of each position, `(stop - start,)`."""
        found = np.empty(self.stop - self.start, dtype=np.int64)
        filled = np.flatnonzero(self.positions != NO_TOKEN)
        found[self.positions[filled] - self.start] = filled
        return found

    @classmethod
    def of_groups(cls, name: str, start: int, stop: int, groups: Ints, tile: int) -> Order:
        """Groups in ascending order, each from a multiple of `tile`; positions ascend in a group.

        Shapes:
            groups: `(stop - start,)`, the number of each position's group

        >>> Order.of_groups("odd last", 0, 5, np.arange(5) % 2, 2).positions.clip(-1)
        array([ 0,  2,  4, -1,  1,  3])
        """
        order = np.argsort(groups, kind="stable")
        sizes = np.bincount(groups)
        sizes = sizes[sizes > 0]
        padded = -(-sizes // tile) * tile
        positions = np.full(int(padded.sum()), NO_TOKEN, dtype=np.int64)
        first = np.cumsum(padded) - padded
        within = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        positions[np.repeat(first, sizes) + within] = order + start
        return cls(name, start, stop, positions)


@dataclass(frozen=True, eq=False)
class Reordered(Region):
    """Boxes, asked by places instead of positions."""

    form: Zones
    order: Order

    @cached_property
    def _boxes(self) -> Boxes:
        return Boxes(self.form)

    @cached_property
    def _digits(self) -> Ints:
        """The digits of the position at each place, `(num_digits, length)`."""
        return np.ascontiguousarray(digits_of(self.order.positions, self.form.places).T)

    @cached_property
    def _extents(self) -> dict[int, tuple[Ints, Ints]]:
        return {}

    def _extent(self, size: int) -> tuple[Ints, Ints]:
        """The least and the largest digits among `size` places, `(num_digits, num_stretches)`."""
        if size not in self._extents:
            length = self.order.length
            filled = self.order.positions != NO_TOKEN
            far = np.int64(1) << 60
            starts = np.arange(0, length, size)
            low = np.minimum.reduceat(np.where(filled, self._digits, far), starts, axis=1)
            high = np.maximum.reduceat(np.where(filled, self._digits, -far), starts, axis=1)
            self._extents[size] = low, high
        return self._extents[size]

    def contains(self, i: Ints, j: Ints) -> Bools:
        return self._boxes.contains(self._at(i), self._at(j))

    def bits(self, tiles: Tiles) -> Bytes:
        first, which = np.unique(tiles.columns, return_inverse=True)
        keys = self._at(first[:, None] + np.arange(tiles.width))
        return self._boxes.bits_between(self._at(tiles.queries), keys, which.reshape(-1))

    def _at(self, places: Ints) -> Ints:
        inside = (places >= 0) & (places < self.order.length)
        found = self.order.positions[np.clip(places, 0, self.order.length - 1)]
        return np.where(inside, found, NO_TOKEN)

    def _tests(self, tiles: Tiles) -> tuple[Bools, Bools]:
        """Which boxes each tile may meet, and which surely cover it: `(num_boxes, num_tiles)`."""
        low, high = self._extent(tiles.height)
        top, bottom = low[:, tiles.row_numbers], high[:, tiles.row_numbers]
        low, high = self._extent(tiles.width)
        left, right = low[:, tiles.column_numbers], high[:, tiles.column_numbers]
        some = (top[0] <= bottom[0]) & (left[0] <= right[0])
        solid = self._is_solid(tiles.height)[tiles.row_numbers]
        solid = solid & self._is_solid(tiles.width)[tiles.column_numbers]
        meets, covers = [], []
        for box in self.form.boxes.tolist():
            meet, cover = some, solid
            for t, (i1, i2, j1, j2, d1, d2) in enumerate(box):
                up, down = np.maximum(top[t], i1), np.minimum(bottom[t], i2)
                near, far = np.maximum(left[t], j1), np.minimum(right[t], j2)
                meet = meet & (up <= down) & (near <= far)
                meet &= np.maximum(d1, up - far) <= np.minimum(d2, down - near)
                cover = cover & (top[t] >= i1) & (bottom[t] <= i2)
                cover &= (left[t] >= j1) & (right[t] <= j2)
                cover &= (top[t] - right[t] >= d1) & (bottom[t] - left[t] <= d2)
            meets.append(meet)
            covers.append(cover & some)
        shape = (len(meets), len(tiles))
        return np.array(meets).reshape(shape), np.array(covers).reshape(shape)

    def _is_solid(self, size: int) -> Bools:
        """Which stretches of places have no empty one."""
        if size not in self._known_solid:
            filled = self.order.positions != NO_TOKEN
            starts = np.arange(0, self.order.length, size)
            solid = np.logical_and.reduceat(filled, starts)
            if self.order.length % size:
                solid[-1] = False
            self._known_solid[size] = solid
        return self._known_solid[size]

    def classify(self, tiles: Tiles) -> Kinds:
        meets, covers = self._tests(tiles)
        kinds = np.where(meets.any(0), MIXED, EMPTY)
        return np.where(covers.any(0), FULL, kinds).astype(np.uint8)

    def signature(self, tiles: Tiles) -> Ints:
        meets, covers = self._tests(tiles)
        row_low, _ = self._extent(tiles.height)
        key_low, _ = self._extent(tiles.width)
        row_shape, tall = self._shapes(tiles.height)
        key_shape, wide = self._shapes(tiles.width)
        rows, keys = tiles.row_numbers, tiles.column_numbers
        columns = [row_shape[rows], key_shape[keys]]
        for number, box in enumerate(self.form.boxes.tolist()):
            here, whole = meets[number], covers[number]
            for t, (i1, i2, j1, j2, d1, d2) in enumerate(box):
                query, key = row_low[t, rows], key_low[t, keys]
                apart = query - key
                parts = [
                    np.clip(i1 - query, 0, tall[t]),
                    np.clip(i2 + 1 - query, 0, tall[t]),
                    np.clip(j1 - key, 0, wide[t]),
                    np.clip(j2 + 1 - key, 0, wide[t]),
                    np.clip(d1 - apart, -wide[t], tall[t]),
                    np.clip(d2 - apart, -wide[t], tall[t]),
                ]
                absent, cover = -wide[t] - 2, -wide[t] - 1
                columns += [np.where(whole, cover, np.where(here, x, absent)) for x in parts]
        return np.stack(columns, axis=1)

    @cached_property
    def _known_shapes(self) -> dict[int, tuple[Ints, Ints]]:
        return {}

    @cached_property
    def _known_solid(self) -> dict[int, Bools]:
        return {}

    def _shapes(self, size: int) -> tuple[Ints, Ints]:
        """The digits of each stretch relative to its least ones, as a number for each pattern.

        Returns:
            The numbers, `(num_stretches,)`, and one more than the largest relative digit,
            `(num_digits,)`.
        """
        if size not in self._known_shapes:
            self._known_shapes[size] = self._find_shapes(size)
        return self._known_shapes[size]

    def _find_shapes(self, size: int) -> tuple[Ints, Ints]:
        low, high = self._extent(size)
        length = -(-self.order.length // size) * size
        relative = np.full((len(low), length), -1, dtype=np.int64)
        filled = self.order.positions != NO_TOKEN
        least = np.repeat(low, size, axis=1)[:, : self.order.length]
        relative[:, : self.order.length] = np.where(filled, self._digits - least, -1)
        stretches = (
            relative.reshape(len(low), -1, size).transpose(1, 0, 2).reshape(-1, len(low) * size)
        )
        rows = np.ascontiguousarray(stretches)
        names = rows.view(np.dtype((np.void, rows.shape[1] * 8))).reshape(-1)
        _, shape = np.unique(names, return_inverse=True)
        extent = np.where(high >= low, high - low, 0).max(1) + 1
        return shape.reshape(-1).astype(np.int64), extent

    def runs(self, rows: Ints) -> Runs:
        raise TooComplex("rows are asked for by position, not by place")

    def transposed(self) -> Reordered:
        return Reordered(self.form.transpose(), self.order)

    def in_blocks(self, size: int, length: int) -> Region:
        raise TooComplex("an order of blocks is not known")

    def zones(self, start: int, stop: int) -> Zones:
        raise TooComplex("the normal form is that of the positions, not of the places")


def reordered(region: Region, order: Order) -> Region:
    """A region asked by the places of an order instead of positions.

    Raises:
        TooComplex: a part has no form that can be reordered.
    """
    match region:
        case Nothing():
            return region
        case Either() | Both():
            return type(region)(tuple(reordered(part, order) for part in region.parts))
        case Minus(part=part, taken=taken):
            return Minus(reordered(part, order), reordered(taken, order))
        case Rows(tokens=tokens) if len(tokens.runs[0]) > _FEW:
            return Rows(_moved(tokens, order))
        case Columns(tokens=tokens) if len(tokens.runs[0]) > _FEW:
            return Columns(_moved(tokens, order))
        case Same(ids=ids) if order.start == 0:
            inside = np.maximum(order.positions, 0)
            return Same(np.where(order.positions >= 0, ids[inside], -1))
        case Links() if region.block == 1 and order.start == 0:
            return _moved_links(region, order)
        case Condition():
            raise TooComplex("a condition without a closed form")
        case _:
            return Reordered(region.zones(order.start, order.stop), order)


_FEW = 64


def _moved(tokens: TokenSet, order: Order) -> TokenSet:
    """Where the tokens of a set stand in an order."""
    if order.start:
        raise TooComplex("memory in front of an order")
    mask = np.zeros(order.length, dtype=np.bool_)
    starts, stops = tokens.runs
    listed = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    mask[order.places[listed]] = True
    return TokenSet.of_mask(mask)


def _moved_links(links: Links, order: Order) -> Links:
    rows, keys = order.places[links.rows], order.places[links.keys]
    by_row = np.argsort(rows, kind="stable")
    offsets = np.searchsorted(rows[by_row], np.arange(order.length + 1)).astype(np.int64)
    return Links.of_rows(offsets, keys[by_row], order.length)


def digit_order(
    name: str,
    start: int,
    stop: int,
    places: Places,
    significance: tuple[int, ...],
    within: int,
    tile: int,
) -> Order:
    """Positions sorted by their digits, the digit `significance[0]` first.

    The digits of the first `within` of `significance` make a group, which starts a tile of its own.
    """
    positions = np.arange(start, stop, dtype=np.int64)
    digits = digits_of(positions, places)
    key = np.zeros(len(positions), dtype=np.int64)
    group = key
    for number, t in enumerate(significance):
        digit = digits[:, t] - digits[:, t].min()
        key = key * (int(digit.max()) + 1) + digit
        if number == within - 1:
            group = key
    order = np.argsort(key, kind="stable")
    _, names = np.unique(group[order], return_inverse=True)
    found = Order.of_groups(name, 0, len(positions), names.reshape(-1), tile)
    filled = found.positions != NO_TOKEN
    moved = np.full(found.length, NO_TOKEN, dtype=np.int64)
    moved[filled] = order[found.positions[filled]] + start
    return Order(name, start, stop, moved)


__all__ = ["NO_TOKEN", "Order", "Reordered", "digit_order", "reordered"]
