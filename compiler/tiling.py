"""From a region to a block layout, without looking at all pairs.

The square is cut into large tiles. A tile that is empty or full is done; the others are cut into
smaller ones, down to the tiles of the layout, so only the border of the relation is visited. At the
end, tiles with equal signatures share one mask, which is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from attnloom.compiler.alike import alike, by_first_use, sortable
from attnloom.compiler.bits import different, num_set
from attnloom.compiler.layout import FULL as FULL_MASK
from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.limits import MAX_MASK_BYTES, MAX_TILES, TooLarge
from attnloom.compiler.regions import FULL, MIXED, Region, Tiles, either
from attnloom.compiler.regions.base import Either
from attnloom.compiler.runs import Ints

_BRANCH = 4
"""Into how many a tile is cut along each axis."""

_MASK_ELEMENTS = 1 << 22
"""Pairs of partial tiles that are worked out at once."""

_TILES_AT_ONCE = 1 << 18


def tile(region: Region, start: int, stop: int, block_m: int, block_n: int) -> BlockLayout:
    """The layout of a region over the positions `start..stop`.

    The region must hold no pair outside of the positions.

    Raises:
        TooLarge: the layout would be beyond the limits.
    """
    full, mixed = _leaves(region, start, stop, block_m, block_n)
    rows, columns, mask_ids, masks, kept = _masks(region, full, mixed)
    num_rows = -(-(stop - start) // block_m)
    num_columns = -(-(stop - start) // block_n)
    order = np.lexsort((sortable(columns, num_columns), sortable(rows, num_rows)))
    counts = np.bincount(rows, minlength=num_rows)
    ids = mask_ids[order]
    partial = ids != FULL_MASK
    used, ids[partial] = by_first_use(ids[partial], len(kept))
    return BlockLayout(
        query_len=stop - start,
        kv_len=stop - start,
        block_m=block_m,
        block_n=block_n,
        row_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        column_indices=columns[order].astype(np.int32),
        mask_ids=ids.astype(np.int32),
        masks=masks[kept[used]],
    )


def _leaves(
    region: Region, start: int, stop: int, block_m: int, block_n: int
) -> tuple[Tiles, Tiles]:
    """The full tiles of the layout, and those that may be partial."""
    parts = region.parts if isinstance(region, Either) else (region,)
    lists = [part.listed(block_m, block_n, start) for part in parts]
    others = [part for part, listed in zip(parts, lists, strict=True) if listed is None]
    full, mixed = _cut_up(either(*others), start, stop, block_m, block_n)
    listed = [tiles for tiles in lists if tiles is not None]
    if not listed:
        return full, mixed
    # Tiles that hold listed pairs are known; cutting large tiles up would find them slowly.
    columns = -(-(stop - start) // block_n)

    def codes(tiles: Tiles) -> Ints:
        return tiles.row_numbers * columns + tiles.column_numbers

    extra = np.concatenate([tiles[:, 0] * columns + tiles[:, 1] for tiles in listed])
    found = np.setdiff1d(np.union1d(codes(mixed), extra), codes(full), assume_unique=True)
    rows, places = found // columns * block_m + start, found % columns * block_n + start
    tiles = Tiles(rows, places, block_m, block_n, start)
    kinds = np.concatenate([region.classify(part) for part in _chunks(tiles)])
    more = tiles.select(kinds == FULL)
    full = Tiles(
        np.concatenate([full.rows, more.rows]), np.concatenate([full.columns, more.columns]),
        block_m, block_n, start,
    )  # fmt: skip
    return full, tiles.select(kinds == MIXED)


def _cut_up(
    region: Region, start: int, stop: int, block_m: int, block_n: int
) -> tuple[Tiles, Tiles]:
    """The same, by cutting large tiles into smaller ones."""
    height, width = block_m, block_n
    while height < stop - start or width < stop - start:
        height, width = height * _BRANCH, width * _BRANCH
    origin = np.array([start], dtype=np.int64)
    tiles = Tiles(origin, origin, height, width, start)
    full: list[Tiles] = []
    total = 0
    while True:
        kinds = np.concatenate([region.classify(part) for part in _chunks(tiles)])
        found = _shrunk(tiles.select(kinds == FULL), block_m, block_n, stop)
        full.append(found)
        total += len(found)
        tiles = tiles.select(kinds == MIXED)
        if total + len(tiles) > MAX_TILES:
            raise TooLarge(f"the layout has more than {MAX_TILES:,} tiles of {block_m}x{block_n}")
        if tiles.height == block_m:
            break
        tiles = _children(tiles, _BRANCH, _BRANCH, stop)
    rows = np.concatenate([part.rows for part in full])
    columns = np.concatenate([part.columns for part in full])
    return Tiles(rows, columns, block_m, block_n, start), tiles


def _chunks(tiles: Tiles) -> Iterator[Tiles]:
    for first in range(0, max(1, len(tiles)), _TILES_AT_ONCE):
        yield tiles.select(slice(first, first + _TILES_AT_ONCE))


def _children(tiles: Tiles, down: int, across: int, stop: int) -> Tiles:
    """Each tile cut into `down * across` smaller ones, without those that start beyond `stop`."""
    if len(tiles) * down * across > 4 * MAX_TILES:
        raise TooLarge(f"more than {4 * MAX_TILES:,} tiles must be looked at")
    height, width = tiles.height // down, tiles.width // across
    rows = tiles.rows[:, None, None] + height * np.arange(down)[:, None]
    columns = tiles.columns[:, None, None] + width * np.arange(across)
    rows, columns = (x.reshape(-1) for x in np.broadcast_arrays(rows, columns))
    inside = (rows < stop) & (columns < stop)
    return Tiles(rows[inside], columns[inside], height, width, tiles.origin)


def _shrunk(tiles: Tiles, block_m: int, block_n: int, stop: int) -> Tiles:
    """Large tiles as tiles of the layout."""
    if tiles.height == block_m and tiles.width == block_n:
        return tiles
    return _children(tiles, tiles.height // block_m, tiles.width // block_n, stop)


def _groups(region: Region, tiles: Tiles) -> tuple[Ints, Ints]:
    """A group for each tile, tiles of a group look the same; and the first tile of each group."""
    parts, some, signatures = [], [], []
    num = 0
    for number, part in enumerate(_chunks(tiles)):
        signature = region.signature(part)
        groups, first = alike(signature)
        parts.append(groups + num)
        num += len(first)
        some.append(first + number * _TILES_AT_ONCE)
        signatures.append(signature[first])
    if len(parts) == 1:
        return parts[0], some[0]
    groups, first = alike(np.concatenate(signatures))
    return groups[np.concatenate(parts)], np.concatenate(some)[first]


def _masks(region: Region, full: Tiles, mixed: Tiles) -> tuple[Ints, Ints, Ints, np.ndarray, Ints]:
    """Row, column and mask of every tile that is not empty; masks, and the different ones of them.

    A tile has the number of a different one.
    """
    groups, first = _groups(region, mixed)
    height, width = mixed.height, mixed.width
    row_bytes = -(-width // 8)
    if len(first) * height * row_bytes > MAX_MASK_BYTES:
        raise TooLarge(
            f"the layout has {len(first):,} different partial tiles, "
            f"over {MAX_MASK_BYTES >> 30} GiB of masks"
        )
    packed = np.empty((len(first), height, row_bytes), dtype=np.uint8)
    step = max(1, _MASK_ELEMENTS // (height * width))
    for begin in range(0, len(first), step):
        piece = slice(begin, begin + step)
        packed[piece] = region.bits(mixed.select(first[piece]))
    sums = num_set(packed)
    kept, ids = different(packed)
    ids[sums == height * width] = FULL_MASK
    ids = ids[groups]
    some = sums[groups] > 0
    rows = np.concatenate([full.row_numbers, mixed.row_numbers[some]])
    columns = np.concatenate([full.column_numbers, mixed.column_numbers[some]])
    mask_ids = np.concatenate([np.full(len(full), FULL_MASK), ids[some]])
    return rows, columns, mask_ids, packed, kept
