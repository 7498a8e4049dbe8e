"""From what a head computes, in whatever order, back to tiles of one grid.

The grid is that of the positions, or that of the places of an order. A part that is worked on in
the order of the grid has its tiles there already; the pairs of everything else are sorted into
tiles anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.bits import different, num_set, turned
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.limits import MAX_MASK_BYTES, TooLarge
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.tiles import NO_PLACE, TileRows

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

_ENTRIES_AT_ONCE = 1 << 22
"""Columns of tiles, or pairs, that are sorted at once."""

_BITS_AT_ONCE = 1 << 24
"""Bits of masks that are unpacked at once."""


def grid_of(layout: HeadLayout, order: NDArray[np.int32] | None = None) -> BlockLayout:
    """The same pairs as a block layout, queries and keys in the order of the positions.

    Args:
        layout: what a head computes.
        order: the position at each place, as in `Part`; then tiles are those of the places.

    Raises:
        TooLarge: the masks would take too much memory.

    >>> import attnloom
    >>> (head,), _ = attnloom.parse("pattern p { stride(8) }").head_layouts(64, block=8)
    >>> residues = head.parts[0].order
    >>> head.num_tiles, grid_of(head, residues).num_tiles, grid_of(head).num_tiles
    (8, 8, 64)
    """
    plain = _plain(layout, order)
    if plain is not None:
        return plain
    grid = _Grid.of(layout, order)
    kept, loose = [], []
    for part in layout.parts:
        is_loose = np.ones(part.forward.num_tiles, dtype=np.bool_)
        if same_order(part.order, order):
            is_loose = _is_loose(part.forward)
            kept.append((part.forward, np.flatnonzero(~is_loose)))
        loose.append(_Loose(part, np.flatnonzero(is_loose), grid))
    return grid.layout(kept, loose)


def same_order(one: NDArray[np.int32] | None, other: NDArray[np.int32] | None) -> bool:
    """Whether two orders, or two lacks of one, are the same."""
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)


def _plain(layout: HeadLayout, order: NDArray[np.int32] | None) -> BlockLayout | None:
    """The tiles as they are, if they are those of the grid."""
    part, *more = layout.parts
    rows = part.forward
    if more or len(rows.gathered) or len(rows.listed) or not same_order(part.order, order):
        return None
    within: Ints = rows.tile_rows() * (rows.num_columns + 1) + rows.columns
    if (np.diff(within) <= 0).any():
        return None  # not in ascending order
    return BlockLayout(
        rows.num_rows, rows.num_columns, rows.block_m, rows.block_n,
        rows.row_offsets, rows.columns, rows.mask_ids, rows.masks,
    )  # fmt: skip


def _is_loose(rows: TileRows) -> Bools:
    """Which tiles are not tiles of the grid: of lists, or in rows of which some are listed."""
    listed = rows.listed[rows.listed != NO_PLACE]
    is_loose = np.zeros(len(rows.row_offsets) - 1, dtype=np.bool_)
    is_loose[rows.num_regular :] = True
    is_loose[listed // rows.block_m] = True
    found: Bools = is_loose[rows.tile_rows()] | (rows.columns < 0)
    return found


@dataclass(frozen=True, eq=False)
class _Grid:
    """Where positions stand, and the tiles there.

    Shapes:
        places: `(num_positions,)`; `None` where each stands at its own number
    """

    query_len: int
    kv_len: int
    block_m: int
    block_n: int
    places: Ints | None

    @classmethod
    def of(cls, layout: HeadLayout, order: NDArray[np.int32] | None) -> _Grid:
        sizes = layout.query_len, layout.kv_len
        if order is None:
            return cls(*sizes, layout.block_m, layout.block_n, None)
        filled = np.flatnonzero(order != NO_PLACE)
        places = np.empty(len(filled), dtype=np.int64)
        places[order[filled]] = filled
        return cls(len(order), len(order), layout.block_m, layout.block_n, places)

    @property
    def width(self) -> int:
        """Tiles beside each other."""
        return -(-self.kv_len // self.block_n)

    @property
    def height(self) -> int:
        return -(-self.query_len // self.block_m)

    @property
    def at_once(self) -> int:
        """Tiles that are worked on at once."""
        return max(1, _BITS_AT_ONCE // (self.block_m * self.block_n))

    def layout(self, kept: Sequence[tuple[TileRows, Ints]], loose: Sequence[_Loose]) -> BlockLayout:
        """The layout of some tiles as they are, and of the pairs of others."""
        across = -(-self.block_n // 8)
        codes, ids, masks, num_masks = [], [], [], 0
        for rows, tiles in kept:
            codes.append(rows.tile_rows()[tiles] * self.width + rows.columns[tiles])
            found = rows.mask_ids[tiles].astype(np.int64)
            ids.append(np.where(found == FULL, FULL, found + num_masks))
            masks.append(rows.masks)
            num_masks += len(rows.masks)
        num_kept = sum(map(len, codes))
        for some, bits in self._sorted(loose):
            codes.append(some)
            first, which = different(bits)
            ids.append(which + num_masks)
            masks.append(bits[first])
            num_masks += len(first)
            if num_masks * self.block_m * across > MAX_MASK_BYTES:
                sizes = f"{self.block_m}x{self.block_n}"
                raise TooLarge(f"{num_masks:,} different masks of {sizes}")
        code = np.concatenate([np.zeros(0, dtype=np.int64), *codes])
        mask_id = np.concatenate([np.zeros(0, dtype=np.int64), *ids])
        none = np.zeros((0, self.block_m, across), dtype=np.uint8)
        return self._joined(code, mask_id, np.concatenate([none, *masks]), num_kept)

    def _joined(self, code: Ints, mask_id: Ints, masks: Bytes, num_kept: int) -> BlockLayout:
        """Tiles in order; those that stand at one place become one."""
        full = np.full((1, *masks.shape[1:]), 255, dtype=np.uint8)
        full[..., -1] >>= -self.block_n % 8
        masks = np.concatenate([masks, full])
        mask_id = np.where(mask_id == FULL, len(masks) - 1, mask_id)
        order = np.argsort(code, kind="stable")
        code, mask_id = code[order], mask_id[order]
        is_first = np.concatenate([[True], code[1:] != code[:-1]])[: len(code)]
        starts = np.flatnonzero(is_first)
        several = np.flatnonzero(np.diff([*starts, len(code)]) > 1)
        joined = np.zeros((len(several), *masks.shape[1:]), dtype=np.uint8)
        for number, at in enumerate(starts[several]):
            stop = at + 1
            while stop < len(code) and code[stop] == code[at]:
                stop += 1
            joined[number] = np.bitwise_or.reduce(masks[mask_id[at:stop]], axis=0)
        ids = mask_id[starts]
        ids[several] = len(masks) + np.arange(len(several))
        masks = np.concatenate([masks, joined])
        used, ids = np.unique(ids, return_inverse=True)
        first, which = different(masks[used])
        masks, ids = masks[used][first], which[ids.reshape(-1)]
        is_full = num_set(masks) == self.block_m * self.block_n
        renumbered = np.where(is_full, FULL, np.cumsum(~is_full) - 1)
        rows, columns = np.divmod(code[starts], self.width)
        counts = np.bincount(rows, minlength=self.height)
        return BlockLayout(
            self.query_len, self.kv_len, self.block_m, self.block_n,
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            columns.astype(np.int32), renumbered[ids].astype(np.int32), masks[~is_full],
        )  # fmt: skip

    def _sorted(self, loose: Sequence[_Loose]) -> Iterator[tuple[Ints, Bytes]]:
        """The tiles of loose pairs, some rows of tiles at a time: codes, and masks."""
        total = sum(one.num_entries for one in loose)
        rounds = min(self.height, -(-total // _ENTRIES_AT_ONCE))
        edges = np.linspace(0, self.height, rounds + 1).astype(np.int64)
        for start, stop in pairwise(edges.tolist()):
            for one in loose:
                yield from one.sorted(start, stop)


class _Loose:
    """Tiles of a part whose pairs are sorted into tiles of the grid.

    Columns are moved as a whole, as long as the rows of each tile stand in the grid as they do in
    the part; else every pair by itself.
    """

    def __init__(self, part: Part, tiles: Ints, grid: _Grid) -> None:
        self.grid, self.rows, self.part = grid, part.forward, part
        rows = part.forward
        regular = np.arange(rows.num_regular * rows.block_m).reshape(-1, rows.block_m)
        regular = np.where(regular < rows.num_rows, regular, NO_PLACE)
        owned = np.zeros(rows.num_rows + 1, dtype=np.bool_)
        owned[rows.listed[rows.listed != NO_PLACE]] = True
        regular[owned[regular]] = NO_PLACE
        self.of_row = self._targets(np.concatenate([regular, rows.listed]))
        # Where each row of tiles goes: between the first and the last of its places.
        there = self.of_row >= 0
        self.first = np.where(there, self.of_row // grid.block_m, grid.height).min(1)
        self.last = np.where(there, self.of_row // grid.block_m, -1).max(1)
        block = np.arange(len(self.of_row))[:, None] * grid.block_m + np.arange(grid.block_m)
        self.is_aligned = (~there | (self.of_row == block)).all(1)
        self.tiles, self.tile_row = tiles, rows.tile_rows()[tiles]
        full = np.full((1, *rows.masks.shape[1:]), 255, dtype=np.uint8)
        full[..., -1] >>= -rows.block_n % 8
        self.masks = np.concatenate([rows.masks, full])
        self.columns_of_masks = turned(self.masks, rows.block_n)

    @property
    def num_entries(self) -> int:
        """How many columns and pairs there can be."""
        aligned = self.is_aligned[self.tile_row]
        count = np.where(aligned, self.rows.block_n, num_set(self.masks)[self._ids(self.tiles)])
        return int(count.sum())

    def _ids(self, tiles: Ints) -> Ints:
        ids: Ints = self.rows.mask_ids[tiles].astype(np.int64)
        return np.where(ids == FULL, len(self.masks) - 1, ids)

    def _targets(self, places: NDArray[np.integer]) -> Ints:
        """Where places of the part stand in the grid; `NO_PLACE` for none."""
        found = places.astype(np.int64)
        if self.part.order is not None:
            found = np.where(found < 0, NO_PLACE, self.part.order[found]).astype(np.int64)
        if self.grid.places is not None:
            found = np.where(found < 0, NO_PLACE, self.grid.places[found])
        return found

    def _of_columns(self, tiles: Ints) -> Ints:
        rows, columns = self.rows, self.rows.columns[tiles]
        places = columns[:, None].astype(np.int64) * rows.block_n + np.arange(rows.block_n)
        places = np.where(places < rows.num_columns, places, NO_PLACE)
        listed = columns < 0
        places[listed] = rows.gathered[-1 - columns[listed]]
        return self._targets(places)

    def sorted(self, start: int, stop: int) -> Iterator[tuple[Ints, Bytes]]:
        """Tiles of the grid in its rows `start..stop`, and their masks."""
        here = (self.first[self.tile_row] < stop) & (self.last[self.tile_row] >= start)
        aligned = self.is_aligned[self.tile_row]
        yield from self._by_columns(np.flatnonzero(here & aligned))
        yield from self._by_pairs(np.flatnonzero(here & ~aligned), start, stop)

    def _by_columns(self, chosen: Ints) -> Iterator[tuple[Ints, Bytes]]:
        grid = self.grid
        tiles = self.tiles[chosen]
        key = self._of_columns(tiles)
        code = self.tile_row[chosen, None] * grid.width + key // grid.block_n
        tile, column = np.nonzero(key >= 0)
        found, which = np.unique(code[tile, column], return_inverse=True)
        order = np.argsort(which.reshape(-1), kind="stable")
        which, tile, column = which.reshape(-1)[order], tile[order], column[order]
        ids = self._ids(tiles)
        rows_there = np.packbits(self.of_row[self.tile_row[chosen]] >= 0, -1, bitorder="little")
        for first, some, own in _groups(which, len(found), grid.at_once):
            masks = np.zeros((len(some), grid.block_n, -(-grid.block_m // 8)), dtype=np.uint8)
            at = tile[own], column[own]
            # A key stands once in a row of a part, or in several tiles with different pairs.
            np.bitwise_or.at(
                masks,
                (which[own] - first, key[at] % grid.block_n),
                self.columns_of_masks[ids[at[0]], at[1]] & rows_there[at[0]],
            )
            used = masks.any((1, 2))
            yield found[some[used]], turned(masks[used], grid.block_m)

    def _by_pairs(self, chosen: Ints, start: int, stop: int) -> Iterator[tuple[Ints, Bytes]]:
        grid, rows = self.grid, self.rows
        size = grid.block_m * grid.block_n
        found = [np.zeros(0, dtype=np.int64)]
        for at in range(0, len(chosen), grid.at_once):
            some = chosen[at : at + grid.at_once]
            query = self.of_row[self.tile_row[some]]
            key = self._of_columns(self.tiles[some])
            bits = np.unpackbits(
                self.masks[self._ids(self.tiles[some])], axis=-1, count=rows.block_n,
                bitorder="little",
            )  # fmt: skip
            row = query // grid.block_m
            bits[(query < 0) | (row < start) | (row >= stop)] = 0
            line, j = np.divmod(np.flatnonzero(bits), rows.block_n)
            i = query.reshape(-1)[line]
            j = key.reshape(-1)[line // rows.block_m * rows.block_n + j]
            code = (i // grid.block_m) * grid.width + j // grid.block_n
            within = (i % grid.block_m) * grid.block_n + j % grid.block_n
            found.append(code * size + within)
        pairs = np.concatenate(found)
        pairs.sort()
        code, within = np.divmod(pairs, size)
        is_first = np.concatenate([[True], code[1:] != code[:-1]])[: len(code)]
        which, tiles = np.cumsum(is_first) - 1, code[is_first]
        for first, some, own in _groups(which, len(tiles), grid.at_once):
            bits = np.zeros((len(some), size), dtype=np.bool_)
            bits[which[own] - first, within[own]] = True
            bits = bits.reshape(-1, grid.block_m, grid.block_n)
            yield tiles[some], np.packbits(bits, axis=-1, bitorder="little")


def _groups(which: Ints, count: int, at_once: int) -> Iterator[tuple[int, Ints, slice]]:
    """Numbers `0..count`, some at once, and where those stand in a sorted list of them."""
    for first in range(0, count, at_once):
        last = min(first + at_once, count)
        start, stop = np.searchsorted(which, [first, last])
        yield first, np.arange(first, last), slice(int(start), int(stop))
