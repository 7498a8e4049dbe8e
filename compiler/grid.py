"""From what a head computes, in whatever order, back to tiles of one grid.

The grid is that of the positions, or that of the places of an order. A part that is worked on in
the order of the grid has its tiles there already; the pairs of everything else are sorted into
tiles anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        for some, which, bits in (piece for one in loose for piece in one.pieces()):
            codes.append(some)
            ids.append(which + num_masks)
            masks.append(bits)
            num_masks += len(bits)
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
        first, number = different(masks)
        masks, mask_id = masks[first], number[mask_id]
        order = np.lexsort((mask_id, code))
        code, mask_id = code[order], mask_id[order]
        is_first = np.concatenate([[True], code[1:] != code[:-1]])[: len(code)]
        starts = np.flatnonzero(is_first)
        counts = np.diff(np.append(starts, len(code)))
        ids = mask_id[starts]
        joined = [masks]
        for count in np.unique(counts[counts > 1]).tolist():
            # Most of them are of the same few masks.
            some = np.flatnonzero(counts == count)
            sets = mask_id[starts[some, None] + np.arange(count)]
            kinds, which = np.unique(sets, axis=0, return_inverse=True)
            ids[some] = sum(map(len, joined)) + which.reshape(-1)
            found = masks[kinds[:, 0]]
            for at in range(1, count):
                found = found | masks[kinds[:, at]]
            joined.append(found)
        masks = np.concatenate(joined)
        used, ids = np.unique(ids, return_inverse=True)
        first, which = different(masks[used])
        masks, ids = masks[used][first], which[ids.reshape(-1)]
        is_full = num_set(masks) == self.block_m * self.block_n
        renumbered = np.where(is_full, FULL, np.cumsum(~is_full) - 1)
        rows, columns = np.divmod(code[starts], self.width)
        per_row = np.bincount(rows, minlength=self.height)
        return BlockLayout(
            self.query_len, self.kv_len, self.block_m, self.block_n,
            np.concatenate([[0], np.cumsum(per_row)]).astype(np.int64),
            columns.astype(np.int32), renumbered[ids].astype(np.int32), masks[~is_full],
        )  # fmt: skip


class _Loose:
    """Tiles of a part whose pairs are sorted into tiles of the grid.

    Columns are moved as a whole, as long as the rows of each tile stand in the grid as they do in
    the part. Of the others, those that differ by where they stand alone are taken apart once.
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
        block = np.arange(len(self.of_row))[:, None] * grid.block_m + np.arange(grid.block_m)
        self.is_aligned = ((self.of_row < 0) | (self.of_row == block)).all(1)
        self.tiles, self.tile_row = tiles, rows.tile_rows()[tiles]
        full = np.full((1, *rows.masks.shape[1:]), 255, dtype=np.uint8)
        full[..., -1] >>= -rows.block_n % 8
        self.masks = np.concatenate([rows.masks, full])
        self.columns_of_masks = turned(self.masks, rows.block_n)

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

    def _of_columns(self, columns: NDArray[np.int32]) -> Ints:
        rows = self.rows
        places = columns[:, None].astype(np.int64) * rows.block_n + np.arange(rows.block_n)
        places = np.where(places < rows.num_columns, places, NO_PLACE)
        listed = columns < 0
        places[listed] = rows.gathered[-1 - columns[listed]]
        return self._targets(places)

    def pieces(self) -> Iterator[tuple[Ints, Ints, Bytes]]:
        """Tiles of the grid, which mask each has, and the masks; a tile may come several times."""
        aligned = self.is_aligned[self.tile_row]
        columns = np.unique(self.rows.columns[self.tiles[aligned]])
        if len(_shapes(self._of_columns(columns), self.grid.block_n)[0]) <= len(columns) // 8:
            aligned[:] = False  # few are different
        moved = np.flatnonzero(aligned)
        for at in range(0, len(moved), max(1, _ENTRIES_AT_ONCE // self.rows.block_n)):
            some = moved[at : at + max(1, _ENTRIES_AT_ONCE // self.rows.block_n)]
            for codes, masks in self._by_columns(some):
                first, which = different(masks)
                yield codes, which, masks[first]
        yield from self._by_shapes(np.flatnonzero(~aligned))

    def _by_columns(self, chosen: Ints) -> Iterator[tuple[Ints, Bytes]]:
        grid = self.grid
        tiles = self.tiles[chosen]
        key = self._of_columns(self.rows.columns[tiles])
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

    def _by_shapes(self, chosen: Ints) -> Iterator[tuple[Ints, Ints, Bytes]]:
        """Tiles whose rows and columns have the same distances and one mask go the same way."""
        if not len(chosen):
            return
        grid = self.grid
        columns, column = np.unique(self.rows.columns[self.tiles[chosen]], return_inverse=True)
        column = column.reshape(-1)
        queries, row_base, row_shape = _shapes(self.of_row, grid.block_m)
        keys, column_base, column_shape = _shapes(self._of_columns(columns), grid.block_n)
        row = self.tile_row[chosen]
        kind = row_shape[row] * len(keys) + column_shape[column]
        kind = kind * len(self.masks) + self._ids(self.tiles[chosen])
        kinds, which = np.unique(kind, return_inverse=True)
        by_kind = np.argsort(which.reshape(-1), kind="stable")
        counts = np.bincount(which.reshape(-1), minlength=len(kinds))
        stops = np.cumsum(counts)
        base = row_base[row] * grid.width + column_base[column]
        pair, ids = np.divmod(kinds, len(self.masks))
        shapes = np.stack(np.divmod(pair, len(keys)))
        for first in range(0, len(kinds), grid.at_once):
            some = slice(first, first + grid.at_once)
            kind_of, apart, masks = self._taken_apart(
                queries[shapes[0, some]], keys[shapes[1, some]], self.masks[ids[some]]
            )
            kind_of += first
            distinct, number = different(masks)
            many = counts[kind_of]
            entry = np.repeat(np.arange(len(kind_of)), many)
            within = np.arange(len(entry)) - np.repeat(np.cumsum(many) - many, many)
            tile = by_kind[stops[kind_of[entry]] - counts[kind_of[entry]] + within]
            yield base[tile] + apart[entry], number[entry], masks[distinct]

    def _taken_apart(self, query: Ints, key: Ints, masks: Bytes) -> tuple[Ints, Ints, Bytes]:
        """For tiles of so many places: which of them, tiles beyond the first, and masks there."""
        grid, rows = self.grid, self.rows
        bits = np.unpackbits(masks, axis=-1, count=rows.block_n, bitorder="little")
        bits[query < 0] = 0
        line, j = np.divmod(np.flatnonzero(bits), rows.block_n)
        tile = line // rows.block_m
        i, j = query.reshape(-1)[line], key.reshape(-1)[tile * rows.block_n + j]
        code = (i // grid.block_m) * grid.width + j // grid.block_n
        within = (i % grid.block_m) * grid.block_n + j % grid.block_n
        order = np.lexsort((code, tile))
        tile, code, within = tile[order], code[order], within[order]
        is_first = (tile[1:] != tile[:-1]) | (code[1:] != code[:-1])
        is_first = np.concatenate([[True], is_first])[: len(tile)]
        which = np.cumsum(is_first) - 1
        found = [np.zeros((0, grid.block_m, -(-grid.block_n // 8)), dtype=np.uint8)]
        for first, some, own in _groups(which, int(is_first.sum()), grid.at_once):
            dense = np.zeros((len(some), grid.block_m * grid.block_n), dtype=np.bool_)
            dense[which[own] - first, within[own]] = True
            tiles = dense.reshape(-1, grid.block_m, grid.block_n)
            found.append(np.packbits(tiles, axis=-1, bitorder="little"))
        return tile[is_first], code[is_first], np.concatenate(found)


def _shapes(targets: Ints, block: int) -> tuple[Ints, Ints, Ints]:
    """Lists of places, each from the tile on in which its first place is.

    Returns:
        The different lists, that tile of each, and which list each is.

    >>> shapes, base, which = _shapes(np.array([[4, 6], [-1, -1], [8, 10]]), 4)
    >>> shapes[which].tolist(), base.tolist()
    ([[0, 2], [-1, -1], [0, 2]], [1, 0, 2])
    """
    there = targets >= 0
    least = np.where(there, targets, np.iinfo(np.int64).max).min(1)
    base = np.where(there.any(1), least // block, 0)
    moved = np.where(there, targets - base[:, None] * block, NO_PLACE)
    shapes, which = np.unique(moved, axis=0, return_inverse=True)
    return shapes, base, which.reshape(-1)


def _groups(which: Ints, count: int, at_once: int) -> Iterator[tuple[int, Ints, slice]]:
    """Numbers `0..count`, some at once, and where those stand in a sorted list of them."""
    for first in range(0, count, at_once):
        last = min(first + at_once, count)
        start, stop = np.searchsorted(which, [first, last])
        yield first, np.arange(first, last), slice(int(start), int(stop))
