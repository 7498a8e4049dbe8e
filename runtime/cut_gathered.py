"""Gathers what no other piece has taken: lists of small blocks of keys for units of queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.tiles import TileRows
from attnloom.runtime.pieces import Bools, Gathered, Ints
from attnloom.runtime.tiles import Tiles

_GATHER_COST = 24
"""What copying one key and value costs, in pairs computed."""

_BLOCK_COST = 256
"""What a block costs by itself, in pairs computed."""

_MAX_PADDING = 1.125
"""How much longer the longest list of a piece may be than its shortest."""


def choose_blocks(tiles: Tiles) -> tuple[int, int]:
    """The sizes of blocks, queries and keys, at which the tiles left cost least."""
    layout = tiles.layout
    whole = layout.block_m, layout.block_n
    if layout.block_m % 16 or layout.block_n % 8 or not len(tiles):
        return whole
    ids, counts = np.unique(tiles.ids, return_counts=True)
    # Whether any pair is read, in blocks of 16 x 8: a byte holds 8 keys.
    shape = (len(ids), layout.block_m // 16, 16, layout.block_n // 8)
    used = tiles.table[ids].reshape(shape).any(2)
    best, chosen = np.inf, whole
    for block_m in (layout.block_m, 64, 32, 16):
        for block_n in (layout.block_n, 32, 16, 8):
            if layout.block_m % block_m or layout.block_n % block_n:
                continue
            tall, wide = block_m // 16, block_n // 8
            blocks = used.reshape(
                len(ids), used.shape[1] // tall, tall, used.shape[2] // wide, wide
            ).any((2, 4))
            number = int(blocks.sum((1, 2)) @ counts)
            cost = number * (block_n * (block_m + _GATHER_COST) + _BLOCK_COST)
            if cost < best:
                best, chosen = cost, (block_m, block_n)
    return chosen


def gather(
    tiles: Tiles, covered: Bools, block_m: int, block_n: int
) -> tuple[tuple[Gathered, ...], Bools]:
    """Everything that is left, as lists of blocks.

    Returns:
        The pieces, and the masks that their `mask_ids` point to: those of blocks, then one that is
        full and one that is empty.
    """
    layout = tiles.layout
    tall, wide = layout.block_m // block_m, layout.block_n // block_n
    ids, which = np.unique(tiles.ids, return_inverse=True)
    # Blocks stay packed: either they are as wide as the tiles, or whole bytes.
    num_bytes = -(-block_n // 8)
    blocks = tiles.table[ids].reshape(len(ids), tall, block_m, wide, num_bytes)
    blocks = blocks.transpose(0, 1, 3, 2, 4).reshape(len(ids) * tall * wide, block_m * num_bytes)
    used = np.flatnonzero(blocks.any(1))
    masks, mask_ids = _distinct_masks(blocks[used], block_m, block_n)
    # The used blocks of entry `e` are `starts[e]..starts[e + 1]`; now list them for each tile.
    entry, top, left = np.unravel_index(used, (len(ids), tall, wide))
    starts = np.searchsorted(entry, np.arange(len(ids) + 1))
    counts = np.diff(starts)[which.reshape(-1)]
    tile = np.repeat(np.arange(len(tiles)), counts)
    within = np.arange(len(tile)) - np.repeat(np.cumsum(counts) - counts, counts)
    block = starts[which.reshape(-1)][tile] + within
    units = tiles.rows[tile] * tall + top[block]
    columns = tiles.columns[tile] * wide + left[block]
    order = np.lexsort((columns, units))
    parts = _units(units[order], columns[order], mask_ids[block][order], masks, covered, tall)
    return tuple(parts), masks


def _distinct_masks(blocks: NDArray[np.uint8], block_m: int, block_n: int) -> tuple[Bools, Ints]:
    """The masks of packed blocks, each once, then full and empty; and which each block is."""
    full = np.packbits(np.ones((block_m, block_n), np.bool_), axis=-1, bitorder="little")
    is_full = (blocks == full.reshape(-1)).all(1)
    partial = np.ascontiguousarray(blocks[~is_full])
    names = partial.view(np.dtype((np.void, partial.shape[1]))).reshape(-1)
    _, first, which = np.unique(names, return_index=True, return_inverse=True)
    mask_ids = np.full(len(blocks), len(first), dtype=np.int64)
    mask_ids[~is_full] = which.reshape(-1)
    table = np.concatenate(
        [partial[first], full.reshape(1, -1), np.zeros_like(full).reshape(1, -1)]
    )
    bits = np.unpackbits(
        table.reshape(-1, block_m, full.shape[1]), axis=-1, count=block_n, bitorder="little"
    )
    return bits.astype(np.bool_), mask_ids


def _units(
    units: Ints, columns: Ints, mask_ids: Ints, masks: Bools, covered: Bools, tall: int
) -> Iterator[Gathered]:
    """Group the units of like length, so that little is padded; the blocks come in order."""
    block_m = masks.shape[1]
    numbers, starts, counts = np.unique(units, return_index=True, return_counts=True)
    if not len(numbers):
        return
    empty, full = len(masks) - 1, len(masks) - 2
    partial = np.logical_or.reduceat(mask_ids != full, starts)
    merges = covered[numbers // tall]
    order = np.lexsort((numbers, counts, partial, merges))
    reads: Bools = np.any(masks, axis=2)
    begin = 0
    while begin < len(order):
        head = order[begin]
        alike = (merges[order] == merges[head]) & (partial[order] == partial[head])
        # A unit without masks must not be padded, for then it would need one.
        limit = counts[head] * (_MAX_PADDING if partial[head] else 1)
        alike &= (counts[order] <= limit) & (np.arange(len(order)) >= begin)
        own = np.sort(order[alike])
        begin += len(own)
        place = np.arange(int(counts[own].max()))
        absent = np.greater_equal(place, counts[own][:, None])
        index = np.where(absent, starts[own][:, None], starts[own][:, None] + place)
        own_ids = np.where(absent, empty, mask_ids[index])
        silent = np.ones((len(own), block_m), dtype=np.bool_)
        for t in place.tolist():
            silent &= ~reads[own_ids[:, t]]
        yield Gathered(
            numbers[own] * block_m,
            columns[index],
            masks.shape[2],
            0,
            own_ids,
            silent if silent.any() else None,
            is_full=not partial[head],
            merges=bool(merges[head]),
        )


def gather_lists(rows: TileRows, reached: Bools) -> tuple[tuple[Gathered, ...], Bools]:
    """The tiles of regular rows that the plan has gathered, by how many a row has.

    Args:
        rows: the plan's tile rows.
        reached: which queries have a result, `(num_rows_of_tiles, parts of a row)`. Where only some
            parts have one, the others must be given one that is empty before these pieces run.

    Returns:
        The pieces, and the masks that their `mask_ids` point to.
    """
    full: Bools = np.ones((1, rows.block_m, rows.block_n), dtype=np.bool_)
    used = np.flatnonzero(rows.columns[: rows.row_offsets[rows.num_regular]] < 0)
    if not len(used):
        return (), full[:0]
    ids, which = np.unique(rows.mask_ids[used], return_inverse=True)
    packed = np.concatenate([rows.masks, np.packbits(full, axis=-1, bitorder="little")])[ids]
    bits = np.unpackbits(packed, axis=-1, count=rows.block_n, bitorder="little")
    masks = bits.astype(np.bool_)
    reads: Bools = np.any(masks, axis=2)
    is_full: Bools = np.all(masks, axis=(1, 2))
    which = which.reshape(-1)
    places = np.maximum(rows.gathered[-1 - rows.columns[used]], 0).astype(np.int64)
    numbers, starts, counts = np.unique(
        rows.tile_rows()[used], return_index=True, return_counts=True
    )
    has_result: Bools = np.any(reached[numbers], axis=1)
    found = []
    for count, merges in sorted({*zip(counts.tolist(), has_result.tolist(), strict=True)}):
        own = np.flatnonzero((counts == count) & (has_result == merges))
        tile = starts[own][:, None] + np.arange(count)
        silent: Bools = ~np.any(reads[which[tile]], axis=1)
        found.append(
            Gathered(
                numbers[own] * rows.block_m,
                places[tile].reshape(len(own), -1),
                1,
                1,
                which[tile],
                silent if silent.any() else None,
                is_full=bool(is_full[which[tile]].all()),
                merges=merges,
            )
        )
    return tuple(found), masks
