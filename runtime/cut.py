"""Cuts tile rows into pieces that dense kernels run well; NumPy enters, NumPy leaves.

Bands go first, for they are the cheapest; then the long rows and the shared keys that would spoil
the rest; what is left is gathered, and so is what the plan itself has gathered. Rows that the plan
lists are long rows. See `attnloom.runtime.pieces`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.tiles import NO_PLACE, TileRows
from attnloom.runtime.cut_bands import RowsOfBand, take_bands
from attnloom.runtime.cut_gathered import choose_blocks, gather, gather_lists
from attnloom.runtime.pieces import Bools, Ints, LongRows, Pieces, SharedKeys
from attnloom.runtime.tiles import Tiles, ranges

_MIN_SHARED = 8
"""Rows of tiles through which a column of tiles must repeat to count as shared."""

_MAX_LONG = 64
"""Long rows in one piece."""


def cut(rows: TileRows, *, rows_of_band: RowsOfBand) -> Pieces:
    """Cut tile rows into pieces.

    Args:
        rows: what to cut.
        rows_of_band: for bands, the sizes of units to choose from, each with the relative speed at
            which a pair is computed in units of this size.
    """
    layout = _grid(rows)
    tiles = Tiles(layout)
    totals = tiles.row_counts()
    covered = np.zeros(layout.num_query_blocks, dtype=np.bool_)
    bands = tuple(take_bands(tiles, covered, rows_of_band))
    long_rows = (*_listed_rows(rows), *_take_long_rows(rows, tiles, totals))
    shared = tuple(_take_shared(tiles, covered))
    block_m, block_n = choose_blocks(tiles)
    gathered, masks = gather(tiles, covered, block_m, block_n)
    reached = np.repeat(covered, layout.block_m // block_m)
    for part in gathered:
        reached[part.first_rows // block_m] = True
    lists, list_masks = gather_lists(rows, reached.reshape(layout.num_query_blocks, -1))
    for part in lists:
        first = part.first_rows // layout.block_m
        reached.reshape(layout.num_query_blocks, -1)[first] |= not part.merges
    bare = np.minimum(ranges(~reached) * block_m, layout.query_len)
    bare = bare[bare[:, 0] < bare[:, 1]]
    return Pieces(bands, shared, bare, (*gathered, *lists), long_rows, (masks, list_masks))


def _grid(rows: TileRows) -> BlockLayout:
    """The tiles that are neither gathered nor of listed rows."""
    inside = np.flatnonzero(rows.columns[: rows.row_offsets[rows.num_regular]] >= 0)
    counts = np.bincount(rows.tile_rows()[inside], minlength=rows.num_regular)
    return BlockLayout(
        rows.num_rows, rows.num_columns, rows.block_m, rows.block_n,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows.columns[inside], rows.mask_ids[inside], rows.masks,
    )  # fmt: skip


def _listed_rows(rows: TileRows) -> Iterator[LongRows]:
    """The listed rows, which are theirs alone here as there."""
    for own in rows.listed:
        yield from _long_rows(rows, own[own != NO_PLACE].astype(np.int64))


def _take_long_rows(rows: TileRows, tiles: Tiles, totals: Ints) -> Iterator[LongRows]:
    """Take out the rows that have far more pairs left than a usual row has in all."""
    layout = tiles.layout
    usual = np.median(totals[: layout.query_len])
    is_long = tiles.row_counts() > 3 * usual + 2 * layout.block_n
    long = np.flatnonzero(is_long)
    if not len(long) or len(long) > layout.query_len // 8:
        return
    yield from _long_rows(rows, long)
    flags = is_long.reshape(-1, layout.block_m)
    patterns, which = np.unique(flags, axis=0, return_inverse=True)
    taken = np.where(patterns[:, :, None], np.uint8(255), np.uint8(0))
    taken = np.broadcast_to(taken, (*patterns.shape, tiles.table.shape[2]))
    has_long: Bools = np.any(flags, axis=1)
    touched = has_long[tiles.rows]
    tiles.remove(touched, taken, which.reshape(-1)[tiles.rows[touched]])


def _long_rows(rows: TileRows, places: Ints) -> Iterator[LongRows]:
    """Some rows with all that they read, in gathered tiles too."""
    for start in range(0, len(places), _MAX_LONG):
        some = np.sort(places[start : start + _MAX_LONG])
        reads = np.zeros((len(some), rows.num_columns), dtype=np.bool_)
        reads[rows.reads_of(some)] = True
        yield _long(some, reads)


def _long(rows: Ints, reads: Bools) -> LongRows:
    """Rows that read what `(rows, keys)` says."""
    used = np.flatnonzero(reads.any(0))
    first, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    inside = reads[:, first:stop]
    mask = None if inside.all() else np.packbits(inside, axis=-1, bitorder="little")
    return LongRows(rows, first, stop, mask)


def _take_shared(tiles: Tiles, covered: Bools) -> Iterator[SharedKeys]:
    """Take out the columns of keys that a long run of rows of tiles reads in the same way."""
    layout = tiles.layout
    if not len(tiles):
        return
    uniform = (tiles.table == tiles.table[:, :1]).all((1, 2))
    order = np.lexsort((tiles.rows, tiles.columns))
    rows, columns, ids = tiles.rows[order], tiles.columns[order], tiles.ids[order]
    goes_on = (np.diff(rows) == 1) & (np.diff(columns) == 0) & (np.diff(ids) == 0)
    run = np.concatenate([[0], np.cumsum(~goes_on)])
    lengths = np.bincount(run)[run]
    shared = np.zeros(len(ids), dtype=np.bool_)
    shared[order] = (lengths >= _MIN_SHARED) & uniform[ids]
    # Rows of which more is left will be gathered anyway, with the shared keys among the others.
    left = np.bincount(tiles.rows[~shared], minlength=layout.num_query_blocks)
    takes_part = np.logical_or(covered, left == 0)
    shared &= takes_part[tiles.rows]
    names = tiles.columns[shared] * len(tiles.table) + tiles.ids[shared]
    for start, stop in _alike(tiles.rows[shared], names, covered):
        own = tiles.of_row(start)
        listed = np.arange(own.start, own.stop)[shared[own]]
        first_row_of = tiles.unpacked(tiles.ids[listed])[:, 0]
        tile, key = np.nonzero(first_row_of)
        keys = tiles.columns[listed][tile] * layout.block_n + key
        yield SharedKeys(
            start * layout.block_m, stop * layout.block_m, keys, merges=bool(covered[start])
        )
    covered[tiles.rows[shared]] = True
    tiles.keep(~shared)


def _alike(rows: Ints, names: Ints, covered: Bools) -> Iterator[tuple[int, int]]:
    """The runs of rows of tiles that list the same names, and are all covered or all not.

    Entry `t` says that row `rows[t]` lists `names[t]`; the rows ascend.
    """
    counts = np.bincount(rows, minlength=len(covered))
    starts = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(len(rows)) - starts[rows]
    before = starts[rows - 1] + place
    same = (rows > 0) & (counts[rows] == counts[rows - 1])
    same &= covered[rows] == covered[rows - 1]
    same[same] = names[before[same]] == names[same]
    agreeing = np.bincount(rows[same], minlength=len(covered))
    joined = (agreeing == counts) & (counts > 0)
    for start in np.flatnonzero((counts > 0) & ~joined).tolist():
        stop = start + 1
        while stop < len(covered) and joined[stop]:
            stop += 1
        yield start, stop
