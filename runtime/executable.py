"""A plan as the kernels take it: flat pools of integers that all heads and parts share.

The orders are compiled away: rows and columns of tiles become positions. A kernel is handed
records, the longest first; a record names its row of positions, its tiles, and where its result
goes. What a plan has in many places, such as lists of positions and masks, stands in pools.

A worked example: four queries in causal tiles of 2x2. Row 0 has one tile, at key 0, in which query
0 reads key 0 and query 1 reads both: the band `0 <= r - c <= 1` of local rows and columns. Row 1
has a full tile at key 0 and the same band at key 2. So the tiles are (band 0, key 0), (full, key 0)
and (band 0, key 2), and the records say: from query 2 on, two tiles from tile 1; from query 0 on,
one tile from tile 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.tiles import NO_PLACE, TileRows

Ints = NDArray[np.int64]

LEAST_SIDE = 16
"""The smallest side of a tile that the kernels take; smaller ones are filled up."""

WORD = 32
"""Bits in a word of a mask."""

_MOST_STEP = 1 << 10
"""Positions between neighbours of a row that is no list; products with it stay small."""

_AT_ONCE = 1 << 10
"""Masks that are looked at at once."""

_FAR = 1 << 20
"""Beyond every row and column of a tile."""


@dataclass(frozen=True, eq=False)
class Pass:
    """One direction of a plan: what is executed for queries, or for keys.

    A record is `(head, rows, step, first_tile, num_even, num_listed, slot, 0)`: the positions
    `rows + step * k`, or if `rows` is negative those from `lists[-1 - rows]` on, where -1 is no
    position. Its tiles are `first_tile` and those that follow: first `num_even` that meet the
    positions `column + step * k`, then `num_listed` whose column is a list. If `slot` is not
    negative, its result is one of several and goes to that slot. `head` counts over all batch
    elements if the plan is made for a batch, and is 0 if all heads follow one layout.

    A tile is a mask in the upper 32 bits and a column, coded like `rows`, in the lower. The mask is
    0 for a full tile, `1 + m` for mask `m` of the pool, `-1 - b` for band `b`.

    A band is `(least, most, num_rows, num_columns)`: the pairs with `least <= row - column <= most`
    among so many rows and columns.

    A merge is `(head, rows, step, num_sources, first_source, first_slot, 0, 0)`: the result of row
    `k` comes from the partial results `first_slot * tile_rows + sources[first_source + i *
    tile_rows + k]` for `i < num_sources`, where -1 is none.

    Shapes:
        records, merges: int32 `(num, 8)`; tiles: int64 `(num_tiles + 1,)`; lists: int32 `(num,)`
        masks: int32 `(num_masks, tile_rows, words)`; bands: int32 `(num_bands, 4)`
        sources: int32 `(num,)`
    """

    records: torch.Tensor
    tiles: torch.Tensor
    lists: torch.Tensor
    masks: torch.Tensor
    bands: torch.Tensor
    merges: torch.Tensor
    sources: torch.Tensor


@dataclass(frozen=True)
class PassSizes:
    """The integers of a pass.

    `strided` says that some step is not 1, and `within` that no tile without a list reaches beyond
    the last position. Slots are those that
    the records use; where all heads follow one layout, each head has as many.
    """

    tile_rows: int
    tile_columns: int
    num_records: int
    num_merges: int
    num_slots: int
    has_lists: bool
    strided: bool
    within: bool


TENSORS_OF_PASS, SIZES_OF_PASS = len(fields(Pass)), len(fields(PassSizes))
_HEADER = 5
"""Sizes before those of the passes."""


@dataclass(frozen=True)
class Executable:
    """Both directions of a plan, for the kernels."""

    query_len: int
    kv_len: int
    num_heads: int
    is_uniform: bool
    """All heads of all batch elements follow one layout."""

    fixed_batch: bool
    """The records name batch elements."""

    forward: Pass
    forward_sizes: PassSizes
    transposed: Pass
    transposed_sizes: PassSizes

    @classmethod
    def of(cls, layouts: Sequence[HeadLayout], layout_of_head: NDArray[Any]) -> Executable:
        """The executable of the layouts of a plan, `layout_of_head` being `(batch or 1, heads)`."""
        choice = np.asarray(layout_of_head, dtype=np.int64)
        first = layouts[0]
        uniform = bool((choice == choice[0, 0]).all())
        if uniform:
            layouts = (layouts[int(choice[0, 0])],)
            of_head = np.zeros(1, dtype=np.int64)
        else:
            of_head = choice.reshape(-1)
        passes = [
            _pass([_half_of(layout, turned) for layout in layouts], of_head)
            for turned in (False, True)
        ]
        (forward, forward_sizes), (transposed, transposed_sizes) = passes
        return cls(
            first.query_len, first.kv_len, choice.shape[1], uniform,
            not uniform and len(choice) > 1, forward, forward_sizes, transposed, transposed_sizes,
        )  # fmt: skip

    def operands(self) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
        """As tensors and integers, the arguments of an operator."""
        tensors = tuple(
            getattr(one, name.name)
            for one in (self.forward, self.transposed)
            for name in fields(Pass)
        )
        header = (self.query_len, self.kv_len, self.num_heads, self.is_uniform, self.fixed_batch)
        sizes = [int(x) for x in header]
        for one in (self.forward_sizes, self.transposed_sizes):
            sizes += [int(getattr(one, name.name)) for name in fields(PassSizes)]
        return tensors, tuple(sizes)

    @classmethod
    def from_operands(cls, tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> Executable:
        """Back from `operands`."""
        query_len, kv_len, num_heads, uniform, fixed = sizes[:_HEADER]
        passes = [Pass(*tensors[at : at + TENSORS_OF_PASS]) for at in (0, TENSORS_OF_PASS)]
        both = []
        for at in (_HEADER, _HEADER + SIZES_OF_PASS):
            of_pass: list[Any] = list(sizes[at : at + SIZES_OF_PASS])
            of_pass[-3:] = map(bool, of_pass[-3:])
            both.append(PassSizes(*of_pass))
        return cls(
            query_len, kv_len, num_heads, bool(uniform), bool(fixed),
            passes[0], both[0], passes[1], both[1],
        )  # fmt: skip


@dataclass(eq=False)
class _Pools:
    """What the halves of all layouts share, growing."""

    tile_rows: int
    tile_columns: int
    tiles: list[Ints] = field(default_factory=list)
    lists: list[Ints] = field(default_factory=list)
    masks: list[NDArray[np.int32]] = field(default_factory=list)
    bands: dict[tuple[int, ...], int] = field(default_factory=dict)
    sources: list[Ints] = field(default_factory=list)
    num_tiles: int = 0
    num_lists: int = 0
    num_masks: int = 0
    num_sources: int = 0
    has_lists: bool = False
    strided: bool = False
    within: bool = True

    def add_lists(self, rows: Ints) -> Ints:
        """Put lists into the pool, `(num, length)`; the codes of each."""
        codes: Ints = -1 - (self.num_lists + np.arange(len(rows)) * rows.shape[1])
        self.lists.append(rows.reshape(-1))
        self.num_lists += rows.size
        return codes

    def add_sources(self, sources: Ints) -> int:
        first = self.num_sources
        self.sources.append(sources.reshape(-1))
        self.num_sources += sources.size
        return first


@dataclass(frozen=True, eq=False)
class _Half:
    """One direction of a head: its parts, over so many positions in rows and in columns."""

    num_rows: int
    num_columns: int
    parts: tuple[tuple[NDArray[np.int32] | None, TileRows], ...]


def _half_of(layout: HeadLayout, turned: bool) -> _Half:
    def rows_of(part: Part) -> TileRows:
        return part.transposed if turned else part.forward

    lengths = layout.query_len, layout.kv_len
    num_rows, num_columns = reversed(lengths) if turned else lengths
    return _Half(
        num_rows,
        num_columns,
        tuple((part.order, rows_of(part)) for part in layout.parts),
    )


@dataclass(frozen=True, eq=False)
class _OfLayout:
    """The records and merges of one layout, for one head.

    Shapes:
        records: `(num, 8)`, with a head of 0, the longest first; merges: `(num, 8)` likewise
    """

    records: Ints
    merges: Ints
    num_slots: int


def _pass(halves: Sequence[_Half], of_head: Ints) -> tuple[Pass, PassSizes]:
    rows = halves[0].parts[0][1]
    pools = _Pools(_side(rows.block_m), _side(rows.block_n))
    built = [_built(half, pools) for half in halves]
    records, merges, num_slots = _for_heads(built, of_head)
    words = max(1, pools.tile_columns // WORD)
    no_masks = np.zeros((1, pools.tile_rows, words), dtype=np.int32)
    bands = np.array([*pools.bands, *[(0, 0, 0, 0)] * (not pools.bands)], dtype=np.int32)
    # One tile more, for the kernels look one ahead.
    tiles = np.concatenate([*pools.tiles, np.zeros(1, dtype=np.int64)])
    arrays = (
        records.astype(np.int32),
        tiles,
        np.concatenate([*pools.lists, np.zeros(1, dtype=np.int64)]).astype(np.int32),
        np.concatenate(pools.masks) if pools.masks else no_masks,
        bands.reshape(-1, 4),
        merges.astype(np.int32),
        np.concatenate([*pools.sources, np.zeros(1, dtype=np.int64)]).astype(np.int32),
    )
    sizes = PassSizes(
        pools.tile_rows, pools.tile_columns, len(records), len(merges), num_slots,
        pools.has_lists, pools.strided, pools.within,
    )  # fmt: skip
    return Pass(*(torch.from_numpy(np.ascontiguousarray(x)) for x in arrays)), sizes


def _side(block: int) -> int:
    """The side of a tile for the kernels: a power of two.

    >>> [_side(block) for block in (1, 16, 100, 128)]
    [16, 16, 128, 128]
    """
    return max(LEAST_SIDE, 1 << math.ceil(math.log2(block)))


def _for_heads(built: Sequence[_OfLayout], of_head: Ints) -> tuple[Ints, Ints, int]:
    """Records and merges of all heads, layouts with long items first."""
    slots = np.array([one.num_slots for one in built])[of_head]
    first_slot = np.cumsum(slots) - slots
    longest = [int(_lengths(one.records).max(initial=0)) for one in built]
    records, merges = [], []
    for number in np.argsort([-length for length in longest], kind="stable"):
        heads = np.flatnonzero(of_head == number)
        if not len(heads):
            continue
        one = built[number]
        # Heads beside each other, for they may share keys.
        own = np.repeat(one.records, len(heads), axis=0)
        own[:, 0] = np.tile(heads, len(one.records))
        own[:, 6] += np.where(own[:, 6] >= 0, first_slot[own[:, 0]], 0)
        records.append(own)
        joins = np.repeat(one.merges, len(heads), axis=0)
        joins[:, 0] = np.tile(heads, len(one.merges))
        joins[:, 5] += first_slot[joins[:, 0]]
        merges.append(joins)
    return np.concatenate(records), np.concatenate(merges), int(slots.sum())


def _lengths(records: Ints) -> Ints:
    lengths: Ints = records[:, 4] + records[:, 5]
    return lengths


def _built(half: _Half, pools: _Pools) -> _OfLayout:
    """The records and merges of one layout."""
    parts = [_place_part(half, order, rows, pools) for order, rows in half.parts]
    if len(parts) == 1:
        (part,) = parts
        records, merges = part.records(), part.merges(pools)
        empty = part.empty_rows()
        records = np.concatenate([records, empty])
        return _OfLayout(records, merges, part.num_slots)
    # Each position has results from several parts: all of them are partial.
    own_records, first = [], 0
    placed = []
    for part in parts:
        own, slots_of_row = part.all_partial(first)
        own_records.append(own)
        placed.append((part, slots_of_row))
        first += len(own)
    together = np.concatenate(own_records)
    together = together[np.argsort(-_lengths(together), kind="stable")]
    return _OfLayout(together, _merges_of_parts(placed, half.num_rows, pools), first)


@dataclass(frozen=True, eq=False)
class _PlacedPart:
    """A part with its rows of tiles as positions.

    Shapes:
        positions: `(num_tile_rows, tile_rows)`, -1 for none; rows: the code of each row
        first_tile, num_even, num_listed: of each item, in the order of the items
    """

    rows_of_part: TileRows
    positions: Ints
    rows: Ints
    step: int
    first_tile: Ints
    num_even: Ints
    num_listed: Ints

    @property
    def num_slots(self) -> int:
        return int(np.count_nonzero(self.rows_of_part.items[:, 3] >= 0))

    def records(self) -> Ints:
        items = self.rows_of_part.items.astype(np.int64)
        return self._records(items[:, 0], items[:, 3])

    def _records(self, row: Ints, slot: Ints) -> Ints:
        zero = np.zeros_like(row)
        step = np.full_like(row, self.step)
        columns = (
            zero, self.rows[row], step, self.first_tile, self.num_even, self.num_listed, slot, zero,
        )  # fmt: skip
        return np.stack(columns, axis=1)

    def empty_rows(self) -> Ints:
        """Records of rows that compute nothing: their results must be written all the same."""
        counts = np.diff(self.rows_of_part.row_offsets)
        row = np.flatnonzero((counts == 0) & (self.positions >= 0).any(1))
        records = np.zeros((len(row), 8), dtype=np.int64)
        records[:, 1], records[:, 2], records[:, 6] = self.rows[row], self.step, -1
        return records

    def merges(self, pools: _Pools) -> Ints:
        """The rows that were split."""
        side = pools.tile_rows
        merges = []
        for row, first, count in self.rows_of_part.merges.astype(np.int64):
            sources = (first + np.arange(count))[:, None] * side + np.arange(side)
            merges.append(
                (0, self.rows[row], self.step, count, pools.add_sources(sources), 0, 0, 0)
            )
        return np.array(merges, dtype=np.int64).reshape(-1, 8)

    def all_partial(self, first: int) -> tuple[Ints, tuple[Ints, Ints]]:
        """Records that all have a slot; the first slot and the number of each row of tiles."""
        items = self.rows_of_part.items.astype(np.int64)
        # The slots of a row lie one after the other.
        order = np.lexsort((items[:, 1], items[:, 0]))
        slot = np.empty(len(items), dtype=np.int64)
        slot[order] = first + np.arange(len(items))
        count = np.bincount(items[:, 0], minlength=len(self.rows))
        return self._records(items[:, 0], slot), (first + np.cumsum(count) - count, count)


def _place_part(
    half: _Half, order: NDArray[np.int32] | None, rows: TileRows, pools: _Pools
) -> _PlacedPart:
    """Put the tiles of a part into the pools."""
    step = 1 if order is None else _step_of(order)
    pools.strided |= step != 1
    positions, row_codes = _rows(half, order, rows, step, pools)
    columns = _columns(half, order, rows, step, pools)
    masks = _masks(rows, columns >= 0, pools)
    # Within an item, tiles with a list come last.
    items = rows.items.astype(np.int64)
    by_start = np.argsort(items[:, 1], kind="stable")
    counts = (items[:, 2] - items[:, 1])[by_start]
    owner = np.repeat(np.arange(len(items)), counts)
    is_list = columns < 0
    within = np.argsort(owner * 2 + is_list, kind="stable")
    tiles = (masks << 32) | (columns & 0xFFFFFFFF)
    num_listed = np.zeros(len(items), dtype=np.int64)
    num_listed[by_start] = np.bincount(owner[is_list], minlength=len(items))
    first = pools.num_tiles + items[:, 1]
    pools.tiles.append(tiles[within])
    pools.num_tiles += len(tiles)
    pools.has_lists |= bool(is_list.any())
    num_even = items[:, 2] - items[:, 1] - num_listed
    return _PlacedPart(rows, positions, row_codes, step, first, num_even, num_listed)


def _step_of(order: NDArray[np.int32]) -> int:
    """How far neighbours mostly lie apart, or 1 if they lie in no such way.

    >>> _step_of(np.array([0, 8, 16, -1, 1, 9, 17, -1], dtype=np.int32))
    8
    """
    steps = np.diff(order.astype(np.int64))
    steps = steps[(order[1:] >= 0) & (order[:-1] >= 0) & (steps > 0) & (steps <= _MOST_STEP)]
    return int(np.bincount(steps).argmax()) if len(steps) else 1


def _rows(
    half: _Half, order: NDArray[np.int32] | None, rows: TileRows, step: int, pools: _Pools
) -> tuple[Ints, Ints]:
    """The positions of each row of tiles, and the code of each."""
    block, side, regular = rows.block_m, pools.tile_rows, rows.num_regular
    places = np.arange(regular * block).reshape(regular, block)
    places = np.where(places < rows.num_rows, places, NO_PLACE)
    owned = np.zeros(rows.num_rows + 1, dtype=np.bool_)
    owned[rows.listed[rows.listed != NO_PLACE]] = True
    places[owned[places]] = NO_PLACE
    places = np.concatenate([places, rows.listed.astype(np.int64)])
    positions = np.full((len(places), side), -1, dtype=np.int64)
    positions[:, :block] = _positions(places, order)
    codes = positions[:, 0].copy()
    listed = np.flatnonzero(~_is_even(positions, step, half.num_rows))
    codes[listed] = pools.add_lists(positions[listed])
    return positions, codes


def _columns(
    half: _Half, order: NDArray[np.int32] | None, rows: TileRows, step: int, pools: _Pools
) -> Ints:
    """The code of the column of each tile."""
    block, side = rows.block_n, pools.tile_columns
    columns = rows.columns.astype(np.int64)
    used = np.unique(columns[columns >= 0])
    places = used[:, None] * block + np.arange(block)
    places = np.where(places < rows.num_columns, places, NO_PLACE)
    positions = np.full((len(used), side), -1, dtype=np.int64)
    positions[:, :block] = _positions(places, order)
    even = _is_even(positions[:, :block], step, half.num_columns) & (positions[:, 0] >= 0)
    code = positions[:, 0].copy()
    listed = np.flatnonzero(~even)
    code[listed] = pools.add_lists(positions[listed])
    last = positions[even, 0] + step * (side - 1)
    pools.within &= not len(last) or int(last.max()) < half.num_columns
    gathered = np.full((len(rows.gathered), side), -1, dtype=np.int64)
    gathered[:, :block] = _positions(rows.gathered.astype(np.int64), order)
    gathered_codes = pools.add_lists(gathered)
    found = np.empty(len(columns), dtype=np.int64)
    is_gathered = columns < 0
    found[is_gathered] = gathered_codes[-1 - columns[is_gathered]]
    found[~is_gathered] = code[np.searchsorted(used, columns[~is_gathered])]
    return found


def _positions(places: Ints, order: NDArray[np.int32] | None) -> Ints:
    """The positions at places; -1 where there is none."""
    if order is None:
        return places
    found: Ints = np.where(places < 0, -1, order[np.maximum(places, 0)])
    return found


def _is_even(positions: Ints, step: int, length: int) -> NDArray[np.bool_]:
    """Whether each list is `first + step * k`, as far as that is a position.

    >>> _is_even(np.array([[1, 3, -1], [1, -1, 5], [0, 2, 4]]), 2, 5)
    array([ True, False,  True])
    """
    expected = positions[:, :1] + step * np.arange(positions.shape[1])
    expected = np.where(expected < length, expected, -1)
    found: NDArray[np.bool_] = (positions[:, 0] >= 0) & (positions == expected).all(1)
    return found


def _masks(rows: TileRows, is_even: NDArray[np.bool_], pools: _Pools) -> Ints:
    """The mask of each tile, as a code; masks are put into the pools."""
    ids = rows.mask_ids.astype(np.int64)
    block_m, block_n = rows.block_m, rows.block_n
    masks = rows.masks
    padded = (block_m, block_n) != (pools.tile_rows, pools.tile_columns)
    if padded and (ids == FULL).any():
        # A full tile that was filled up is no longer full.
        full = np.packbits(
            np.ones((1, block_m, block_n), dtype=np.bool_), axis=-1, bitorder="little"
        )
        ids = np.where(ids == FULL, len(masks), ids)
        masks = np.concatenate([masks, full])
    code_of_mask = np.zeros(len(masks) + 1, dtype=np.int64)
    # Gathered columns are in no sequence that a band could be of.
    candidates = np.unique(ids[is_even & (ids != FULL)])
    for some in np.array_split(candidates, max(1, -(-len(candidates) // _AT_ONCE))):
        for number, band in zip(some, _bands(masks[some], block_n), strict=True):
            if band is not None:
                code_of_mask[number] = -1 - pools.bands.setdefault(band, len(pools.bands))
    kept = np.unique(ids[(ids != FULL) & (code_of_mask[ids] == 0)])
    code_of_mask[kept] = 1 + pools.num_masks + np.arange(len(kept))
    words = max(1, pools.tile_columns // WORD)
    bits = np.zeros((len(kept), pools.tile_rows, words * WORD // 8), dtype=np.uint8)
    bits[:, :block_m, : masks.shape[-1]] = masks[kept]
    if len(kept):
        pools.masks.append(bits.view("<i4"))
        pools.num_masks += len(kept)
    found: Ints = np.where(ids == FULL, 0, code_of_mask[ids])
    return found


def _bands(masks: NDArray[np.uint8], block_n: int) -> Iterator[tuple[int, int, int, int] | None]:
    """Each mask as a band, if it is one; see `Pass`.

    >>> causal = np.packbits(np.tril(np.ones((1, 4, 4), bool)), axis=-1, bitorder="little")
    >>> list(_bands(causal, 4))
    [(0, 3, 4, 4)]
    """
    if not len(masks):
        return
    used = np.unpackbits(masks, axis=-1, count=block_n, bitorder="little").astype(np.bool_)
    row, column = np.arange(used.shape[1])[:, None], np.arange(block_n)
    apart = row - column
    least = np.where(used, apart, _FAR).min((1, 2))
    most = np.where(used, apart, -_FAR).max((1, 2))
    used_rows: Any = used.any(2)
    used_columns: Any = used.any(1)
    num_rows = used.shape[1] - used_rows[:, ::-1].argmax(1)
    num_columns = block_n - used_columns[:, ::-1].argmax(1)
    expected: Any = (least[:, None, None] <= apart) & (apart <= most[:, None, None])
    expected &= (row < num_rows[:, None, None]) & (column < num_columns[:, None, None])
    for found in np.stack(
        [least, most, num_rows, num_columns, (expected == used).all((1, 2))], axis=1
    ).tolist():
        yield (found[0], found[1], found[2], found[3]) if found[4] else None


def _merges_of_parts(
    placed: Sequence[tuple[_PlacedPart, tuple[Ints, Ints]]], length: int, pools: _Pools
) -> Ints:
    """For each block of positions, where their partial results lie."""
    side = pools.tile_rows
    positions, sources = [], []
    for part, (first, count) in placed:
        row, local = np.nonzero(part.positions >= 0)
        each = count[row]
        entry = np.repeat(np.arange(len(row)), each)
        number = np.arange(len(entry)) - np.repeat(np.cumsum(each) - each, each)
        positions.append(part.positions[row, local][entry])
        sources.append((first[row][entry] + number) * side + local[entry])
    position, source = np.concatenate(positions), np.concatenate(sources)
    order = np.argsort(position, kind="stable")
    position, source = position[order], source[order]
    counts = np.bincount(position, minlength=length)
    rank = np.arange(len(position)) - np.repeat(np.cumsum(counts) - counts, counts)
    num_blocks = -(-length // side)
    rounds = np.zeros(num_blocks, dtype=np.int64)
    np.maximum.at(rounds, np.arange(length) // side, counts)
    first_of_block = np.cumsum(rounds * side) - rounds * side
    table = np.full(int(rounds.sum()) * side, -1, dtype=np.int64)
    table[first_of_block[position // side] + rank * side + position % side] = source
    start = pools.add_sources(table)
    zero = np.zeros(num_blocks, dtype=np.int64)
    return np.stack(
        [zero, np.arange(num_blocks) * side, zero + 1, rounds, start + first_of_block, zero, zero,
         zero], axis=1,
    )  # fmt: skip
