"""pack: rows and columns that few tiles' worth of pairs use are gathered into dense tiles.

A row of tiles often has tiles in which few columns are used: scattered globals, random links. Their
columns are gathered, as many as fill a tile. Likewise places whose own row is long while their
neighbours' are not, such as scattered global queries, are listed together in rows of tiles of their
own; whatever their regular rows compute for them is void.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.alike import alike, packed_numbers, sortable
from attnloom.compiler.bits import (
    columns_used,
    different,
    num_set,
    ranges,
    rows_used,
    turned,
)
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.model import CostModel
from attnloom.compiler.passes.draft import Draft, DraftPart
from attnloom.compiler.passes.wide import Wide, columns_read, rows_read
from attnloom.compiler.regions import Region
from attnloom.compiler.runs import Ints
from attnloom.compiler.tiles import NO_PLACE, TileRows

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

_FEW_ROWS = 4
"""A tile is thin when at most this share (one in so many) of its rows is used."""

_LONG = 8
"""Thin tiles in a row of tiles from which its few rows are worth a list."""


def pack(draft: Draft) -> Draft:
    """Both halves of each part, packed."""
    return replace(draft, parts=tuple(_packed(part, draft) for part in draft.parts))


def _packed(part: DraftPart, draft: Draft) -> DraftPart:
    model, start = draft.model, draft.start if part.order is None else 0
    layout, pairs = part.layout, part.pairs
    assert layout is not None
    queries, keys = pairs if pairs is not None else (NONE, NONE)
    wide = part.wide
    other_way = tuple(one.transposed() for one in wide)
    whole = part.region
    by_keys = layout.transpose()
    return replace(
        part,
        turned=by_keys,
        pairs=None,
        wide=(),
        forward=pack_half(layout, by_keys, (queries, keys), wide, whole, start, model),
        transposed=pack_half(
            by_keys, layout, (keys, queries), other_way, whole.transposed(), start, model
        ),
    )


NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass
class _Tiles:
    """Tiles under change: `rows` counts rows of tiles, ids point into masks or are `FULL`.

    Shapes:
        rows, columns, ids: `(num_tiles,)`; masks: `(num_masks, block_m, row_bytes)`
        turned: the first masks, perhaps not all, by columns: `(num, block_n, column_bytes)`
    """

    block_m: int
    block_n: int
    rows: Ints
    columns: Ints
    ids: Ints
    masks: Bytes
    turned: Bytes

    @classmethod
    def of(cls, layout: BlockLayout, by_columns: BlockLayout) -> _Tiles:
        return cls(
            layout.block_m,
            layout.block_n,
            layout.tile_rows().astype(np.int64),
            layout.column_indices.astype(np.int64),
            layout.mask_ids.astype(np.int64),
            layout.masks,
            by_columns.masks,
        )

    @classmethod
    def of_masks(
        cls, layout: BlockLayout, rows: Ints, columns: Ints, ids: Ints, masks: Bytes
    ) -> _Tiles:
        """Tiles of which those whose mask is full are to be called so."""
        is_full = num_set(masks) == layout.block_m * layout.block_n
        ids = np.where(is_full[ids], FULL, ids) if is_full.any() else ids
        none = np.zeros((0, layout.block_n, -(-layout.block_m // 8)), dtype=np.uint8)
        return cls(layout.block_m, layout.block_n, rows, columns, ids, masks, none)

    def keep(self, which: Bools) -> None:
        self.rows, self.columns, self.ids = self.rows[which], self.columns[which], self.ids[which]

    def rows_used(self) -> Bools:
        """Which rows each mask uses, and `FULL`, the last of all, `(num_masks + 1, block_m)`."""
        full = np.ones((1, self.block_m), dtype=np.bool_)
        return np.concatenate([rows_used(self.masks), full])

    def columns_used(self) -> Bools:
        """Which columns each mask uses, and `FULL`, the last of all, `(num_masks + 1, block_n)`."""
        known, more = rows_used(self.turned), self.masks[len(self.turned) :]
        full = np.ones((1, self.block_n), dtype=np.bool_)
        return np.concatenate([known, columns_used(more, self.block_n), full])

    def by_columns(self, masks: Ints) -> Bytes:
        """Some masks with rows and columns exchanged, `(num, block_n, column_bytes)`."""
        if (masks < len(self.turned)).all():
            return self.turned[masks]
        return turned(self.masks[masks], self.block_n)

    def rows_of_bits(self, tiles: Ints, rows: Ints) -> Bytes:
        """Single rows of tiles, `(num, row_bytes)`."""
        ids = self.ids[tiles]
        full = ranges(np.zeros(1, dtype=np.int64), np.full(1, self.block_n), self.block_n)
        bits = np.repeat(full, len(tiles), axis=0)
        partial = np.flatnonzero(ids != FULL)
        bits[partial] = self.masks[ids[partial], rows[partial]]
        return bits


def pack_half(
    layout: BlockLayout,
    by_columns: BlockLayout,
    pairs: tuple[Ints, Ints],
    wide: tuple[Wide, ...],
    whole: Region,
    start: int,
    model: CostModel,
) -> TileRows:
    """A layout, and what stands beside it, as tile rows with gathered and listed places.

    Args:
        layout: the tiles; holds nothing of the pairs and wide parts.
        by_columns: the same, transposed.
        pairs: the places of listed pairs, in rows and in columns, `(num_pairs,)` each.
        wide: the parts about scattered tokens.
        whole: all of it, positions or places from `start` on.
        start: the first position.
        model: what gathering costs.
    """
    tiles = _Tiles.of(layout, by_columns)
    tall = [one.tokens for one in wide if not one.is_columns]
    if tall:
        places = np.unique(np.concatenate(tall)) - start
        listed, own_tiles = _listed(places, layout), _tiles_of_tokens(places, whole, start, layout)
    else:
        listed, own_tiles = _take_long_rows(tiles, layout)
    regular = layout.num_query_blocks
    parts = [tiles, own_tiles]
    gathers = [_take_thin_columns(part, model) for part in parts]
    if len(pairs[0]):
        gathers.append(_columns_of_pairs(*pairs, listed, layout))
    gathers += [_columns_of_wide(one, start, layout) for one in wide if one.is_columns]
    if not len(listed) and not any(len(one.rows) for one in gathers):
        return TileRows.of(layout)
    gathered, more = _gathered_tiles(_joined(gathers, regular, layout.kv_len), layout)
    return _assembled(layout, [*parts, more], gathered, listed, regular)


# --- long rows -----------------------------------------------------------------------------------


def _take_long_rows(tiles: _Tiles, layout: BlockLayout) -> tuple[NDArray[np.int32], _Tiles]:
    """Take out places whose row of tiles is long because of them alone; their own tiles."""
    block = tiles.block_m
    none = np.zeros((0, block), dtype=np.int32), _no_tiles(layout)
    used = tiles.rows_used()
    num_used = used.sum(1)
    thin = np.flatnonzero(((num_used * _FEW_ROWS <= block) & (num_used > 0))[tiles.ids])
    num_thin = np.bincount(tiles.rows[thin], minlength=layout.num_query_blocks)
    crowded = num_thin >= _LONG
    which = thin[crowded[tiles.rows[thin]]]
    if not len(which):
        return none
    candidate = np.zeros((layout.num_query_blocks, block), dtype=np.bool_)
    # Each different mask of a row of tiles counts once.
    pairs = np.unique(tiles.rows[which] * len(tiles.masks) + tiles.ids[which])
    np.logical_or.at(candidate, pairs // len(tiles.masks), used[pairs % len(tiles.masks)])
    candidate &= (candidate.sum(1) * _FEW_ROWS <= block)[:, None]
    places = np.flatnonzero(candidate.reshape(-1))
    places = places[places < layout.query_len]
    if np.count_nonzero(candidate.any(1)) <= -(-len(places) // block):
        return none  # as many rows of tiles as before
    taken = np.flatnonzero(candidate.any(1))
    left = _emptied(tiles, candidate, used)
    own = _tiles_of_places(tiles, places, used, layout)
    if len(own.rows) >= np.count_nonzero(left):
        return none
    _clear_rows(tiles, candidate, taken)
    tiles.keep(~left)
    return _listed(places, layout), own


def _listed(places: Ints, layout: BlockLayout) -> NDArray[np.int32]:
    """Places as the rows of tiles that list them."""
    block = layout.block_m
    listed = np.full(-(-len(places) // block) * block, NO_PLACE, dtype=np.int32)
    listed[: len(places)] = places
    return listed.reshape(-1, block)


def _tiles_of_tokens(places: Ints, whole: Region, start: int, layout: BlockLayout) -> _Tiles:
    """The tiles of listed places, asked of the region itself."""
    block, width = layout.block_m, layout.num_kv_blocks
    found = rows_read(whole, places + start, start, width, layout.block_n)
    # Which row of bits stands where, 0 for none: few tiles differ, and only those are written out.
    table = np.zeros((-(-len(places) // block) * block, width), dtype=np.int32)
    table[: len(places)] = found.table
    table = np.ascontiguousarray(table.reshape(-1, block, width).transpose(0, 2, 1))
    table = table.reshape(-1, block)
    first, which = different(table[:, None].view(np.uint8))
    bits = np.concatenate([np.zeros_like(found.bits[:1]), found.bits])
    masks = bits[table[first]]
    some = num_set(masks) > 0
    kept = np.flatnonzero(some[which])
    return _Tiles.of_masks(layout, kept // width, kept % width, which[kept], masks)


def _columns_of_wide(wide: Wide, start: int, layout: BlockLayout) -> _Columns:
    """The columns of scattered tokens in every row of tiles."""
    found = columns_read(wide, start, layout.num_query_blocks, layout.block_m)
    table = np.ascontiguousarray(found.table.T)
    row, token = np.nonzero(table)
    places = (wide.tokens - start).astype(np.int32)[token]
    return _Columns(row.astype(np.int32), places, table[row, token] - np.int32(1), found.bits)


def _no_tiles(layout: BlockLayout) -> _Tiles:
    return _Tiles.of_masks(layout, NONE, NONE, NONE, layout.masks[:0])


def _emptied(tiles: _Tiles, candidate: Bools, used: Bools) -> Bools:
    """Which tiles have nothing left without the candidates' rows."""
    crowded = np.asarray(candidate.any(1))
    touched = np.flatnonzero(crowded[tiles.rows])
    left = np.zeros(len(tiles.rows), dtype=np.bool_)
    left[touched] = ~(used[tiles.ids[touched]] & ~candidate[tiles.rows[touched]]).any(1)
    return left


def _clear_rows(tiles: _Tiles, candidate: Bools, taken: Ints) -> None:
    """Clear the candidates' rows in partial masks; in full tiles they may stay, being void."""
    touched = np.flatnonzero(np.isin(tiles.rows, taken) & (tiles.ids != FULL))
    if not len(touched):
        return
    flags = candidate[taken]
    groups, first = alike(packed_numbers(flags, 2))
    which = groups[np.searchsorted(taken, tiles.rows[touched])]
    codes = tiles.ids[touched] * len(first) + which
    different, inverse = np.unique(codes, return_inverse=True)
    cleared = tiles.masks[different // len(first)].copy()
    cleared[flags[first][different % len(first)]] = 0
    tiles.ids[touched] = len(tiles.masks) + inverse.reshape(-1)
    tiles.masks = np.concatenate([tiles.masks, cleared])


def _tiles_of_places(tiles: _Tiles, places: Ints, used: Bools, layout: BlockLayout) -> _Tiles:
    """The tiles of listed places: row `places[k]` is row `k` of the new rows of tiles.

    `used` tells which rows each mask uses.
    """
    block = tiles.block_m
    offsets = np.searchsorted(tiles.rows, np.arange(layout.num_query_blocks + 1))
    row, local = places // block, places % block
    counts = offsets[row + 1] - offsets[row]
    entry = np.repeat(np.arange(len(places)), counts)
    at = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    tile = np.repeat(offsets[row], counts) + at
    some = used[tiles.ids[tile], local[entry]]
    entry, tile = entry[some], tile[some]
    width = layout.num_kv_blocks
    codes, which = np.unique(entry // block * width + tiles.columns[tile], return_inverse=True)
    masks = np.zeros((len(codes), block, tiles.masks.shape[2]), dtype=np.uint8)
    masks[which.reshape(-1), entry % block] = tiles.rows_of_bits(tile, local[entry])
    return _Tiles.of_masks(layout, codes // width, codes % width, np.arange(len(codes)), masks)


# --- thin columns --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Single columns: for each its row of tiles, its place, and the bits of its rows by number.

    Shapes:
        rows, places, ids: int32 `(num_columns,)`
        bits: `(num_different, ceil(block_m / 8))`
    """

    rows: NDArray[np.int32]
    places: NDArray[np.int32]
    ids: NDArray[np.int32]
    bits: Bytes


def _take_thin_columns(tiles: _Tiles, model: CostModel) -> _Columns:
    """Take out tiles that cost more than their columns do gathered."""
    empty = np.zeros(0, dtype=np.int32)
    none = _Columns(empty, empty, empty, np.zeros((0, -(-tiles.block_m // 8)), dtype=np.uint8))
    columns = tiles.columns_used()
    used = columns.sum(1)
    # A tile is worth it only beside another one that its columns leave room for.
    may_be = (used < tiles.block_n)[tiles.ids]
    if np.count_nonzero(may_be) < 2:
        return none
    which = np.flatnonzero(may_be)
    counts, rows = used[tiles.ids[which]], tiles.rows[which]
    # In each row of tiles, the thinnest first: so many that what they save is largest.
    order = np.argsort(rows * (tiles.block_n + 1) + counts, kind="stable")
    rows, counts = rows[order], counts[order]
    starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
    lengths = np.diff(np.append(starts, len(rows)))
    group = np.repeat(np.arange(len(starts)), lengths)
    total = np.cumsum(counts)
    total -= (total - counts)[starts][group]
    number = np.arange(1, len(rows) + 1) - starts[group]
    saved = model.partial * number - model.gathered * -(-total // tiles.block_n)
    best = np.maximum.reduceat(saved, starts)
    last = np.zeros(len(starts), dtype=np.int64)
    is_best = (saved == best[group]) & (best > 0)[group]
    np.maximum.at(last, group[is_best], number[is_best])
    taken = which[order[number <= last[group]]]
    if not len(taken):
        return none
    found = _columns_of(tiles, np.sort(taken), columns)
    left = np.ones(len(tiles.rows), dtype=np.bool_)
    left[taken] = False
    tiles.keep(left)
    return found


def _columns_of(tiles: _Tiles, which: Ints, used: Bools) -> _Columns:
    """The used columns of some tiles, tile by tile; `used` tells which each mask uses."""
    masks, of_tile = np.unique(tiles.ids[which], return_inverse=True)
    mask, column = np.nonzero(used[masks])
    bits = tiles.by_columns(masks)[mask, column]
    of_tile = of_tile.reshape(-1)
    counts = np.bincount(mask, minlength=len(masks))
    each = counts[of_tile]
    begin = np.cumsum(each) - each
    first = tiles.columns[which] * tiles.block_n
    starts = np.cumsum(counts) - counts
    at = np.arange(int(each.sum())) + np.repeat(starts[of_tile] - begin, each)
    places = (np.repeat(first, each) + column[at]).astype(np.int32)
    rows = np.repeat(tiles.rows[which].astype(np.int32), each)
    return _Columns(rows, places, at.astype(np.int32), bits)


def _columns_of_pairs(
    rows: Ints, columns: Ints, listed: NDArray[np.int32], layout: BlockLayout
) -> _Columns:
    """The columns of single pairs."""
    block = layout.block_m
    row, local = rows // block, rows % block
    if len(listed):
        flat = listed.reshape(-1)
        where = np.full(layout.query_len, -1, dtype=np.int64)
        filled = np.flatnonzero(flat != NO_PLACE)
        where[flat[filled]] = filled
        moved = where[rows]
        row = np.where(moved >= 0, layout.num_query_blocks + moved // block, row)
        local = np.where(moved >= 0, moved % block, local)
    codes, which = np.unique(row * layout.kv_len + columns, return_inverse=True)
    bits = np.zeros((len(codes), -(-block // 8)), dtype=np.uint8)
    np.bitwise_or.at(bits, (which.reshape(-1), local // 8), (1 << local % 8).astype(np.uint8))
    first, ids = different(bits[:, None])
    row, place = np.divmod(codes, layout.kv_len)
    return _Columns(row.astype(np.int32), place.astype(np.int32), ids.astype(np.int32), bits[first])


def _joined(parts: list[_Columns], regular: int, width: int) -> _Columns:
    """The columns of regular rows, of listed rows, and of pairs, by rows of tiles."""
    filled = [part for part in parts if len(part.rows)]
    if len(filled) == 1 and filled[0] is not parts[1]:
        return filled[0]
    rows = np.concatenate(
        [part.rows + np.int32(regular * (at == 1)) for at, part in enumerate(parts)]
    )
    places = np.concatenate([part.places for part in parts])
    starts = np.cumsum([0, *(len(part.bits) for part in parts[:-1])])
    ids = np.concatenate(
        [part.ids + np.int32(start) for part, start in zip(parts, starts, strict=True)]
    )
    bits = np.concatenate([part.bits for part in parts])
    # A column of a tile may also be one of single pairs: then its bits are joined.
    codes = rows.astype(np.int64) * width + places
    order = np.argsort(codes, kind="stable")
    codes, ids = codes[order], ids[order]
    again = np.flatnonzero(codes[1:] == codes[:-1]) + 1
    if len(again):
        both = np.stack([ids[again - 1], ids[again]], axis=1)
        groups, first = alike(both)
        ids[again - 1] = len(bits) + groups
        bits = np.concatenate([bits, bits[both[first, 0]] | bits[both[first, 1]]])
        codes, ids = np.delete(codes, again), np.delete(ids, again)
    rows, places = (x.astype(np.int32) for x in np.divmod(codes, width))
    return _Columns(rows, places, ids, bits)


def _gathered_tiles(columns: _Columns, layout: BlockLayout) -> tuple[NDArray[np.int32], _Tiles]:
    """Columns put together to tiles: the places of each, and the tiles."""
    block_m, block_n = layout.block_m, layout.block_n
    rows = columns.rows
    if not len(rows):
        return np.zeros((0, block_n), dtype=np.int32), _no_tiles(layout)
    starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
    lengths = np.diff(np.append(starts, len(rows)))
    per_row = -(-lengths // block_n)
    first = np.cumsum(per_row) - per_row
    place = np.arange(len(rows)) + np.repeat(first * block_n - starts, lengths)
    gathered = np.full(int(per_row.sum()) * block_n, NO_PLACE, dtype=np.int32)
    gathered[place] = columns.places
    # Number 0 stands for a slot without a column.
    slots = np.zeros((len(gathered) // block_n, block_n), dtype=np.int32)
    slots.reshape(-1)[place] = columns.ids + 1
    one, groups = different(slots.view(np.uint8)[:, None])
    bits = np.concatenate([np.zeros_like(columns.bits[:1]), columns.bits])
    masks = turned(bits[slots[one]], block_m)
    row_of_tile = np.repeat(rows[starts], per_row).astype(np.int64)
    numbers = -1 - np.arange(len(row_of_tile))
    tiles = _Tiles.of_masks(layout, row_of_tile, numbers, groups, masks)
    return gathered.reshape(-1, block_n), tiles


# --- putting together ----------------------------------------------------------------------------


def _assembled(
    layout: BlockLayout,
    parts: list[_Tiles],
    gathered: NDArray[np.int32],
    listed: NDArray[np.int32],
    regular: int,
) -> TileRows:
    """Tile rows of the regular tiles, those of listed rows, and the gathered ones."""
    plain, own, more = parts
    rows = np.concatenate([plain.rows, own.rows + regular, more.rows])
    columns = np.concatenate([plain.columns, own.columns, more.columns])
    starts = np.cumsum([0, len(plain.masks), len(own.masks)])
    ids = np.concatenate(
        [np.where(part.ids == FULL, FULL, part.ids + start)
         for part, start in zip(parts, starts, strict=True)]
    )  # fmt: skip
    # Gathered tiles last, others by column; a negative number would come first.
    place = np.where(columns < 0, layout.num_kv_blocks - columns, columns)
    num_rows, num_places = regular + len(listed), layout.num_kv_blocks + len(gathered) + 1
    order = np.lexsort((sortable(place, num_places), sortable(rows, num_rows)))
    counts = np.bincount(rows, minlength=num_rows)
    found = TileRows(
        layout.query_len, layout.kv_len, layout.block_m, layout.block_n,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        columns[order].astype(np.int32),
        ids[order].astype(np.int32),
        np.concatenate([part.masks for part in parts]), gathered, listed,
        np.zeros((0, 4), dtype=np.int32), np.zeros((0, 3), dtype=np.int32),
    )  # fmt: skip
    return replace(found, items=found.whole_rows())
