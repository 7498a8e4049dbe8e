"""Cuts a block layout into pieces that dense kernels run well; NumPy enters, NumPy leaves.

The tiles of a layout are right for a GPU. A CPU gains more from regularity: the queries of a window
slide over the keys with a fixed step, so that strided views replace copies; global keys are few and
the same for all queries; global queries are few and read nearly everything. `cut` takes those out
of a layout, one after the other, and leaves the rest to be gathered. Every pair of the layout is in
exactly one piece, except that the rows of a `LongRows` piece are theirs alone: whatever other
pieces say about those rows is void.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL, BlockLayout

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Band:
    """Query `first_row + u*rows + i` reads key `first_key + u*rows + j` where `mask[i, j]`.

    Shapes:
        mask: `(rows, num_keys)`, or `None` when every pair is read.
    """

    first_row: int
    first_key: int
    num_units: int
    rows: int
    num_keys: int
    mask: Bools | None


@dataclass(frozen=True, eq=False)
class SharedKeys:
    """The queries `first_row..stop_row` all read all of `keys`.

    Shapes:
        keys: `(num_keys,)`, ascending
    """

    first_row: int
    stop_row: int
    keys: Ints
    merges: bool
    """Whether another piece has given these rows a result before."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """Units of `block_m` queries, each with a list of blocks of `block_n` keys of its own.

    Query `first_rows[u] + i` reads key `columns[u, t]*block_n + j` where
    `masks[mask_ids[u, t]][i, j]`; the masks are those of the `Pieces`.

    Shapes:
        first_rows: `(num_units,)`, columns: `(num_units, width)`, mask_ids: `(num_units, width)`
        silent: `(num_units, block_m)`, the queries that read no key here; `None` when all do.
    """

    first_rows: Ints
    columns: Ints
    mask_ids: Ints
    silent: Bools | None
    is_full: bool
    """Whether every pair is read, so that no mask is needed."""
    merges: bool


@dataclass(frozen=True, eq=False)
class LongRows:
    """Single queries that read far more keys than the others: all within `first_key..stop_key`.

    Shapes:
        rows: `(num_rows,)`; mask: bits `(num_rows, ceil((stop_key - first_key) / 8))`, or `None`
    """

    rows: Ints
    first_key: int
    stop_key: int
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False)
class Pieces:
    """A layout, cut. Run in the order of the fields.

    Shapes:
        bare: `(num_ranges, 2)`: ranges of queries that no piece but `long_rows` covers.
        masks: `(num_masks, block_m, block_n)` of the gathered blocks; last but one is full, last
            is empty.
    """

    bands: tuple[Band, ...]
    shared: tuple[SharedKeys, ...]
    gathered: tuple[Gathered, ...]
    long_rows: tuple[LongRows, ...]
    bare: Ints
    block_m: int
    block_n: int
    masks: Bools


_MIN_BAND = 4
"""Rows of tiles from which a band is worth its call."""

_MIN_SHARED = 8
"""Rows of tiles through which a column of tiles must repeat to count as shared."""

_MAX_LONG = 64
"""Long rows in one piece."""

_GATHER_COST = 24
"""What copying one key and value costs, in pairs computed."""


@dataclass
class _Tiles:
    """Tiles under subtraction; `ids` point into `table`, whose entry 0 is full and 1 is empty.

    Shapes:
        rows, columns, ids: `(num_tiles,)`; table: uint8 `(num_masks, block_m, ceil(block_n / 8))`
    """

    layout: BlockLayout
    rows: Ints = field(init=False)
    columns: Ints = field(init=False)
    ids: Ints = field(init=False)
    table: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        layout = self.layout
        full = np.ones((1, layout.block_m, layout.block_n), dtype=np.bool_)
        packed = np.packbits(full, axis=-1, bitorder="little")
        self.table = np.concatenate([packed, np.zeros_like(packed), layout.masks])
        self.rows = layout.tile_rows().astype(np.int64)
        self.columns = layout.column_indices.astype(np.int64)
        self.ids = np.where(layout.mask_ids == FULL, 0, layout.mask_ids.astype(np.int64) + 2)

    def add(self, masks: NDArray[np.uint8]) -> Ints:
        """Enter masks into the table; their ids, 0 and 1 for full and empty ones."""
        ids = np.arange(len(masks)) + len(self.table)
        ids[(masks == self.table[0]).all((1, 2))] = 0
        ids[~masks.any((1, 2))] = 1
        self.table = np.concatenate([self.table, masks])
        return ids

    def remove(self, where: Bools, taken: NDArray[np.uint8], taken_ids: Ints) -> None:
        """Take the bits `taken[taken_ids]` out of the tiles at `where`; drop emptied tiles."""
        pairs = np.stack([self.ids[where], taken_ids])
        unique, inverse = np.unique(pairs, axis=1, return_inverse=True)
        left = self.table[unique[0]] & ~taken[unique[1]]
        self.ids[where] = self.add(left)[inverse.reshape(-1)]
        self.keep(self.ids != 1)

    def keep(self, where: Bools) -> None:
        self.rows, self.columns, self.ids = self.rows[where], self.columns[where], self.ids[where]

    def unpacked(self, ids: Ints) -> Bools:
        bits = np.unpackbits(self.table[ids], axis=-1, count=self.layout.block_n, bitorder="little")
        return bits.astype(np.bool_)

    def row_counts(self) -> Ints:
        """Keys read by each query in the tiles left, `(num_query_blocks * block_m,)`."""
        counts = np.zeros((self.layout.num_query_blocks, self.layout.block_m), dtype=np.int64)
        per_mask = np.bitwise_count(self.table).sum(-1, dtype=np.int64)
        np.add.at(counts, self.rows, per_mask[self.ids])
        return counts.reshape(-1)


def cut(layout: BlockLayout, *, rows_of_band: tuple[tuple[int, float], ...]) -> Pieces:
    """Cut a layout into pieces.

    Args:
        layout: what to cut.
        rows_of_band: for bands, the sizes of units to choose from, each with the relative speed at
            which a pair is computed in units of this size.
    """
    tiles = _Tiles(layout)
    totals = tiles.row_counts()
    covered = np.zeros(layout.num_query_blocks, dtype=np.bool_)
    bands = tuple(_take_bands(tiles, covered, rows_of_band))
    long_rows = tuple(_take_long_rows(tiles, totals))
    shared = tuple(_take_shared(tiles, covered))
    block_m, block_n = _gather_blocks(tiles)
    gathered, masks = _gather(tiles, covered, block_m, block_n)
    reached = np.repeat(covered, layout.block_m // block_m)
    for part in gathered:
        reached[part.first_rows // block_m] = True
    bare = np.minimum(_ranges(~reached) * block_m, layout.query_len)
    bare = bare[bare[:, 0] < bare[:, 1]]
    return Pieces(bands, shared, gathered, long_rows, bare, block_m, block_n, masks)


def _ranges(flags: Bools) -> Ints:
    """The runs of true entries as half-open ranges, `(num_ranges, 2)`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return edges.reshape(-1, 2).astype(np.int64)


def _take_bands(
    tiles: _Tiles, covered: Bools, rows_of_band: tuple[tuple[int, float], ...]
) -> Iterator[Band]:
    """Take out what nearly every row of tiles has in the same place relative to itself."""
    layout = tiles.layout
    if layout.block_m % layout.block_n or not len(tiles.ids):
        return
    step = layout.block_m // layout.block_n
    offsets = tiles.columns - step * tiles.rows
    usual_offsets, usual_ids = _usual(tiles, offsets)
    if not len(usual_offsets):
        return
    place = np.searchsorted(usual_offsets, offsets)
    place[place == len(usual_offsets)] = 0
    in_band = usual_offsets[place] == offsets
    wanted = usual_ids[place]
    holds = in_band & (tiles.ids == wanted)
    others = np.flatnonzero(in_band & ~holds)
    pairs, inverse = np.unique(
        np.stack([tiles.ids[others], wanted[others]]), axis=1, return_inverse=True
    )
    lacking = (tiles.table[pairs[1]] & ~tiles.table[pairs[0]]).any((1, 2))
    holds[others] = ~lacking[inverse.reshape(-1)]
    agreeing = np.bincount(tiles.rows[holds], minlength=layout.num_query_blocks)
    runs = _ranges(agreeing == len(usual_offsets))
    runs = runs[runs[:, 1] - runs[:, 0] >= _MIN_BAND]
    span = tiles.unpacked(usual_ids).transpose(1, 0, 2).reshape(layout.block_m, -1)
    for start, stop in runs.tolist():
        covered[start:stop] = True
        first_key = (start * step + int(usual_offsets[0])) * layout.block_n
        yield from _bands_of_run(layout, span, start, stop, first_key, rows_of_band)
    in_runs = in_band & covered[tiles.rows]
    tiles.remove(in_runs, tiles.table, wanted[in_runs])


def _usual(tiles: _Tiles, offsets: Ints) -> tuple[Ints, Ints]:
    """The widest run of offsets at which most rows have a tile, and the mask they share at each."""
    found = []
    many = max(_MIN_BAND, tiles.layout.num_query_blocks / 2)
    values, counts = np.unique(offsets, return_counts=True)
    for offset in values[counts >= many].tolist():
        number, area = _common_mask(tiles, offsets == offset)
        if area:
            found.append((offset, number))
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    usual = np.array(found).T
    breaks = np.flatnonzero(np.diff(usual[0]) > 1) + 1
    clusters = np.split(np.arange(usual.shape[1]), breaks)
    widest = max(clusters, key=len)
    return usual[0, widest], usual[1, widest]


def _common_mask(tiles: _Tiles, where: Bools) -> tuple[int, int]:
    """The id of the mask that covers most pairs if taken from every tile that has all of it.

    Returns 0 for the area when not even half of the rows of tiles have such a mask.
    """
    layout = tiles.layout
    ids, counts = np.unique(tiles.ids[where], return_counts=True)
    # Tiles at the border are cut off, and would spoil what the others have in common.
    inside = where & (tiles.rows < layout.num_query_blocks - 1)
    inside &= tiles.columns < layout.num_kv_blocks - 1
    candidates = ids[np.argsort(-counts, kind="stable")][:3].tolist()
    if inside.any():
        common = np.bitwise_and.reduce(tiles.table[np.unique(tiles.ids[inside])], axis=0)
        candidates.append(int(tiles.add(common[None])[0]))
    best = (0, 0)
    for candidate in candidates:
        mask = tiles.table[candidate]
        rows = counts[~(mask & ~tiles.table[ids]).any((1, 2))].sum()
        area = int(rows) * int(np.bitwise_count(mask).sum())
        if rows >= layout.num_query_blocks / 2 and area > best[1]:
            best = candidate, area
    return best


def _bands_of_run(
    layout: BlockLayout,
    span: Bools,
    start: int,
    stop: int,
    first_key: int,
    rows_of_band: tuple[tuple[int, float], ...],
) -> Iterator[Band]:
    """Cut the rows of tiles `start..stop`, each of which reads `span`, into units."""
    block, num_rows = layout.block_m, (stop - start) * layout.block_m
    choices = []
    for rows, speed in rows_of_band:
        if rows <= num_rows and (block % rows == 0 or rows % block == 0):
            mask, shift = _mask_of_unit(span, rows)
            if mask is not None:
                choices.append((mask.shape[1] / speed, rows, mask, shift))
    if not choices:
        mask, shift = _mask_of_unit(span, block)
        assert mask is not None
        choices = [(0.0, block, mask, shift)]
    _, rows, mask, shift = min(choices, key=lambda choice: choice[0])
    num_units = num_rows // rows
    every = None if mask.all() else mask
    yield Band(start * block, first_key + shift, num_units, rows, mask.shape[1], every)
    done = num_units * rows // block
    if start + done < stop:
        left = [choice for choice in rows_of_band if choice[0] <= block] or [(block, 1.0)]
        key = first_key + done * block
        yield from _bands_of_run(layout, span, start + done, stop, key, tuple(left))


def _mask_of_unit(span: Bools, rows: int) -> tuple[Bools | None, int]:
    """The mask of units of `rows` queries, and its first key relative to the span's.

    `None` when smaller units do not all read the same keys relative to themselves.
    """
    block, width = span.shape
    repeats = max(1, rows // block)
    whole = np.zeros((repeats * block, width + (repeats - 1) * block), dtype=np.bool_)
    for repeat in range(repeats):
        whole[repeat * block : (repeat + 1) * block, repeat * block :][:, :width] = span
    used = np.flatnonzero(whole[:rows].any(0))
    first, stop = int(used[0]), int(used[-1]) + 1
    mask = whole[:rows, first:stop]
    for top in range(rows, len(whole), rows):
        moved = np.zeros_like(mask)
        inside = whole[top : top + rows, first + top : stop + top]
        moved[:, : inside.shape[1]] = inside
        count = np.count_nonzero(whole[top : top + rows])
        if not np.array_equal(moved, mask) or np.count_nonzero(mask) != count:
            return None, 0
    return mask, first


def _take_long_rows(tiles: _Tiles, totals: Ints) -> Iterator[LongRows]:
    """Take out the rows that have far more pairs left than a usual row has in all."""
    layout = tiles.layout
    counts = tiles.row_counts()
    usual = np.median(totals[: layout.query_len])
    is_long = counts > 3 * usual + 2 * layout.block_n
    rows = np.flatnonzero(is_long)
    if not len(rows) or len(rows) > layout.query_len // 8:
        return
    original = _Tiles(layout)
    for start in range(0, len(rows), _MAX_LONG):
        yield _long_rows(original, rows[start : start + _MAX_LONG])
    flags = is_long.reshape(-1, layout.block_m)
    patterns, which = np.unique(flags, axis=0, return_inverse=True)
    taken = np.where(patterns[:, :, None], np.uint8(255), np.uint8(0))
    taken = np.broadcast_to(taken, (*patterns.shape, tiles.table.shape[2]))
    touched = flags.any(1)[tiles.rows]
    tiles.remove(touched, taken, which.reshape(-1)[tiles.rows[touched]])


def _long_rows(tiles: _Tiles, rows: Ints) -> LongRows:
    layout = tiles.layout
    dense = np.zeros((len(rows), layout.num_kv_blocks, layout.block_n), dtype=np.bool_)
    for place, row in enumerate(rows.tolist()):
        own = slice(
            *np.searchsorted(tiles.rows, [row // layout.block_m, row // layout.block_m + 1])
        )
        bits = tiles.table[tiles.ids[own], row % layout.block_m]
        dense[place, tiles.columns[own]] = np.unpackbits(
            bits, axis=-1, count=layout.block_n, bitorder="little"
        )
    flat = dense.reshape(len(rows), -1)[:, : layout.kv_len]
    used = np.flatnonzero(flat.any(0))
    first, stop = int(used[0]), int(used[-1]) + 1
    inside = flat[:, first:stop]
    mask = None if inside.all() else np.packbits(inside, axis=-1, bitorder="little")
    return LongRows(rows, first, stop, mask)


def _take_shared(tiles: _Tiles, covered: Bools) -> Iterator[SharedKeys]:
    """Take out the columns of keys that a long run of rows of tiles reads in the same way."""
    layout = tiles.layout
    if not len(tiles.ids):
        return
    packed = tiles.table
    uniform = (packed == packed[:, :1]).all((1, 2))
    order = np.lexsort((tiles.rows, tiles.columns))
    rows, columns, ids = tiles.rows[order], tiles.columns[order], tiles.ids[order]
    goes_on = (np.diff(rows) == 1) & (np.diff(columns) == 0) & (np.diff(ids) == 0)
    run = np.concatenate([[0], np.cumsum(~goes_on)])
    lengths = np.bincount(run)[run]
    shared = np.zeros(len(ids), dtype=np.bool_)
    shared[order] = (lengths >= _MIN_SHARED) & uniform[ids]
    # Rows of which more is left will be gathered anyway, with the shared keys among the others.
    num_rows = layout.num_query_blocks
    left = np.bincount(tiles.rows[~shared], minlength=num_rows)
    shared &= (covered | (left == 0))[tiles.rows]
    names = tiles.columns[shared] * len(tiles.table) + tiles.ids[shared]
    for start, stop in _alike(tiles.rows[shared], names, covered):
        own = np.flatnonzero(shared & (tiles.rows == start))
        local = [
            column * layout.block_n + np.flatnonzero(tiles.unpacked(tiles.ids[[t]])[0, 0])
            for t, column in zip(own, tiles.columns[own], strict=True)
        ]
        merges = bool(covered[start])
        yield SharedKeys(
            start * layout.block_m, stop * layout.block_m, np.concatenate(local), merges
        )
    covered[tiles.rows[shared]] = True
    tiles.keep(~shared)


def _alike(rows: Ints, names: Ints, covered: Bools) -> Iterator[tuple[int, int]]:
    """The runs of rows of tiles that list the same names, and are all covered or all not.

    Entry `t` says that row `rows[t]` lists `names[t]`; the rows ascend.
    """
    num_rows = len(covered)
    counts = np.bincount(rows, minlength=num_rows)
    starts = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(len(rows)) - starts[rows]
    before = starts[rows - 1] + place
    same = (rows > 0) & (counts[rows] == counts[rows - 1])
    same &= covered[rows] == covered[rows - 1]
    same[same] = names[before[same]] == names[same]
    agreeing = np.bincount(rows[same], minlength=num_rows)
    joined = (agreeing == counts) & (counts > 0)
    heads = np.flatnonzero((counts > 0) & ~joined)
    for start in heads.tolist():
        stop = start + 1
        while stop < num_rows and joined[stop]:
            stop += 1
        yield start, stop


def _gather_blocks(tiles: _Tiles) -> tuple[int, int]:
    """The sizes of blocks at which the tiles left cost least."""
    layout = tiles.layout
    whole = layout.block_m, layout.block_n
    if layout.block_m % 16 or layout.block_n % 8 or not len(tiles.ids):
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
            cost = number * (block_n * (block_m + _GATHER_COST) + 256)
            if cost < best:
                best, chosen = cost, (block_m, block_n)
    return chosen


def _gather(
    tiles: _Tiles, covered: Bools, block_m: int, block_n: int
) -> tuple[tuple[Gathered, ...], Bools]:
    """Everything that is left, as lists of blocks."""
    layout = tiles.layout
    tall, wide = layout.block_m // block_m, layout.block_n // block_n
    ids, inverse = np.unique(tiles.ids, return_inverse=True)
    cells = tiles.unpacked(ids).reshape(len(ids), tall, block_m, wide, block_n)
    cells = cells.transpose(0, 1, 3, 2, 4).reshape(-1, block_m * block_n)
    ends = np.ones((2, block_m * block_n), dtype=np.bool_)
    ends[1] = False
    packed = np.packbits(np.concatenate([cells, ends]), axis=-1)
    names = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, which = np.unique(names, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    full, empty = int(which[-2]), int(which[-1])
    cell_ids = which[:-2].reshape(len(ids), tall, wide)[inverse.reshape(-1)]
    tile, top, left = np.nonzero(cell_ids != empty)
    units = tiles.rows[tile] * tall + top
    columns = tiles.columns[tile] * wide + left
    mask_ids = cell_ids[tile, top, left]
    order = np.lexsort((columns, units))
    units, columns, mask_ids = units[order], columns[order], mask_ids[order]
    # The table in the order promised: what occurs, then full, then empty.
    kept = [number for number in range(len(first)) if number not in (full, empty)]
    place = np.empty(len(first), dtype=np.int64)
    place[[*kept, full, empty]] = np.arange(len(first))
    bits = np.concatenate([cells, ends])[first[[*kept, full, empty]]]
    masks = bits.reshape(-1, block_m, block_n)
    parts = _units(units, columns, place[mask_ids], masks, covered, tall)
    return tuple(parts), masks


def _units(
    units: Ints, columns: Ints, mask_ids: Ints, masks: Bools, covered: Bools, tall: int
) -> Iterator[Gathered]:
    """Group the units of like length, so that little is padded."""
    block_m = masks.shape[1]
    numbers, starts, counts = np.unique(units, return_index=True, return_counts=True)
    empty, full = len(masks) - 1, len(masks) - 2
    partial = np.zeros(len(numbers), dtype=np.bool_)
    if len(numbers):
        partial = np.logical_or.reduceat(mask_ids != full, starts)
    merges = covered[numbers // tall]
    order = np.lexsort((numbers, counts, partial, merges))
    reads = masks.any(2)
    begin = 0
    while begin < len(order):
        head = order[begin]
        alike = (merges[order] == merges[head]) & (partial[order] == partial[head])
        # A unit without masks must not be padded, for then it would need one.
        limit = counts[head] * 1.125 if partial[head] else counts[head]
        alike &= (counts[order] <= limit) & (np.arange(len(order)) >= begin)
        end = begin + int(np.count_nonzero(alike))
        own = order[begin:end]
        width = int(counts[own].max())
        place = np.arange(width)
        absent = place >= counts[own][:, None]
        index = np.where(absent, 0, starts[own][:, None] + place)
        own_ids = np.where(absent, empty, mask_ids[index])
        own_columns = np.where(absent, columns[starts[own]][:, None], columns[index])
        silent = np.ones((len(own), block_m), dtype=np.bool_)
        for t in range(width):
            silent &= ~reads[own_ids[:, t]]
        yield Gathered(
            numbers[own] * block_m,
            own_columns,
            own_ids,
            silent if silent.any() else None,
            not bool(partial[head]),
            bool(merges[head]),
        )
        begin = end
