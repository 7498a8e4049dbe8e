"""A sequence over several processes: who has which tiles, and who needs which keys of whom.

The sequence is divided into *units*, as long as a tile, in the order of the positions or in that
of a pattern: places are filled with positions, as in `compiler/orders.py`. Each process owns some
units: their queries, keys and values. It computes the rows of its queries, for which it needs keys
of others: a window's neighbours, global tokens, random links. *Long* queries, which read far more
than most, are not served so, for their process would need everything: each process computes what
they read of its own keys, and the results are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.bits import different, num_set
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.tiles import NO_PLACE

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

LONG = 8
"""How many times as many keys as half of the queries a long query reads, at the least."""

_LONG_TILES = 4
"""And how many tiles' worth of keys."""


@dataclass(frozen=True, eq=False)
class Needs:
    """Which keys processes need of others, in ascending order of processes and units.

    Shapes:
        rank, unit: `(num_pairs,)`; bits: `(num_pairs, ceil(unit / 8))`, the keys of the unit
    """

    rank: Ints
    unit: Ints
    bits: Bytes

    def places(self, pairs: Ints, size: int) -> Ints:
        """The places of some pairs, one after the other; `size` is that of a unit."""
        bits = np.unpackbits(self.bits[pairs], axis=-1, count=size, bitorder="little")
        number, within = np.nonzero(bits)
        return self.unit[pairs[number]] * size + within


@dataclass(frozen=True, eq=False)
class Division:
    """Which process owns each unit, and what follows from it for all of them.

    `order` names the position at each place, `NO_PLACE` for none, whole units long; without one
    places are positions. `grids` are the layouts of the heads over the places, without the long
    queries; `long` are the places of those, by their owners and then ascending.

    Shapes:
        owner: `(num_units,)`; long: `(num_long,)`; order: int32 `(num_places,)`
    """

    length: int
    unit: int
    ranks: int
    owner: Ints
    order: NDArray[np.int32] | None
    grids: tuple[BlockLayout, ...]
    long: Ints
    long_bits: tuple[LongBits, ...]

    @classmethod
    def of(
        cls,
        grids: Sequence[BlockLayout],
        owner: Ints,
        ranks: int,
        order: NDArray[np.int32] | None = None,
        *,
        long: int = LONG,
    ) -> Division:
        """Divide layouts with square tiles over the places of an order, or over positions.

        A query is long if it reads `long` times as many keys as half of the queries.

        Raises:
            ValueError: the tiles are not square, queries and keys differ in number, or a process
                would own nothing.
        """
        first = grids[0]
        if first.block_m != first.block_n or first.query_len != first.kv_len:
            raise ValueError(
                "sharding needs as many queries as keys in square tiles, got "
                f"{first.query_len} x {first.kv_len} in tiles of {first.block_m}x{first.block_n}"
            )
        length = first.query_len if order is None else int((order != NO_PLACE).sum())
        if not np.array_equal(np.unique(owner), np.arange(ranks)):
            raise ValueError(
                f"{length:,} tokens in tiles of {first.block_m} are {len(owner)} for {ranks} "
                "processes: compile with a smaller block"
            )
        unit = first.block_m
        places = np.unique(np.concatenate([_long_places(grid, long) for grid in grids]))
        places = places[np.argsort(owner[places // unit], kind="stable")]
        taken = [_take(grid, places) for grid in grids]
        return cls(
            length, unit, ranks, owner, order,
            tuple(short for short, _ in taken), places, tuple(bits for _, bits in taken),
        )  # fmt: skip

    def restricted(self, grids: Sequence[int]) -> Division:
        """The same for some of the grids alone, by their numbers."""
        return replace(
            self,
            grids=tuple(self.grids[number] for number in grids),
            long_bits=tuple(self.long_bits[number] for number in grids),
        )

    # --- units and places ---

    @cached_property
    def _filled(self) -> Ints:
        """The tokens of each unit: the last of a group may be short."""
        if self.order is None:
            first = np.arange(len(self.owner)) * self.unit
            return np.minimum(self.unit, self.length - first)
        filled: Ints = (self.order != NO_PLACE).reshape(-1, self.unit).sum(1)
        return filled

    def lengths(self, units: Ints) -> Ints:
        """The tokens of some units."""
        return self._filled[units]

    def units(self, rank: int) -> Ints:
        """The units of a process, ascending."""
        return np.flatnonzero(self.owner == rank)

    def positions(self, rank: int) -> Ints:
        """The positions of a process, in the order of its places."""
        places = self.places_of(self.units(rank))
        if self.order is None:
            return places
        return self.order[places].astype(np.int64)

    def places_of(self, units: Ints) -> Ints:
        """The places of some units at which there is a token."""
        places = units[:, None] * self.unit + np.arange(self.unit)
        inside: Ints = places[np.arange(self.unit) < self.lengths(units)[:, None]]
        return inside

    def local(self, rank: int, places: Ints) -> Ints:
        """For places of a process, which of its tokens stand there."""
        return np.searchsorted(self.places_of(self.units(rank)), places)

    def num_slots(self, units: Ints) -> int:
        """The places of an array of units, one after the other; nothing behind the last token."""
        lengths = self.lengths(units)
        whole = bool((lengths[:-1] == self.unit).all())
        return int(lengths.sum()) if whole else len(units) * self.unit

    def slots(self, units: Ints, places: Ints) -> Ints:
        """Where some places are in an array of ascending units."""
        slots: Ints = np.searchsorted(units, places // self.unit) * self.unit + places % self.unit
        return slots

    def own_slots(self, rank: int) -> Ints | None:
        """Where each token of a process is in the array of its units; `None` if side by side."""
        units = self.units(rank)
        slots = self.slots(units, self.places_of(units))
        return None if len(slots) == self.num_slots(units) else slots

    # --- what is needed ---

    @cached_property
    def needs(self) -> Needs:
        """Which keys processes need of others."""
        count, width = len(self.owner), -(-self.unit // 8)
        codes, bits = [np.zeros(0, np.int64)], [np.zeros((0, width), np.uint8)]
        every = np.full((1, width), 255, dtype=np.uint8)
        every[:, -1] >>= -self.unit % 8
        for grid in self.grids:
            rank = self.owner[grid.tile_rows()]
            remote = np.flatnonzero(self.owner[grid.column_indices] != rank)
            used = np.concatenate([np.bitwise_or.reduce(grid.masks, axis=1), every])
            codes.append(rank[remote] * count + grid.column_indices[remote])
            bits.append(used[grid.mask_ids[remote]])  # FULL is -1, the last of all
        code, bit = np.concatenate(codes), np.concatenate(bits)
        order = np.argsort(code, kind="stable")
        code = code[order]
        starts = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]])[: len(code)])
        joined = np.bitwise_or.reduceat(bit[order], starts, axis=0) if len(code) else bit
        rank, unit = np.divmod(code[starts], count)
        return Needs(rank, unit, joined)

    def _needed(self, rank: int) -> Ints:
        """Numbers of the pairs of a process in `needs`, by their owners and then ascending."""
        pairs = np.flatnonzero(self.needs.rank == rank)
        by_owner = np.argsort(self.owner[self.needs.unit[pairs]], kind="stable")
        ordered: Ints = pairs[by_owner]
        return ordered

    def needed(self, rank: int) -> Ints:
        """The units of others of which a process needs keys, ascending."""
        units: Ints = self.needs.unit[self.needs.rank == rank]
        return units

    def received(self, rank: int) -> Ints:
        """The places of the keys that a process receives, by their owners and then ascending."""
        return self.needs.places(self._needed(rank), self.unit)

    def received_counts(self, rank: int) -> Ints:
        """How many of them are from each process, `(ranks,)`."""
        owner = self.owner[self.received(rank) // self.unit]
        return np.bincount(owner, minlength=self.ranks)

    def sent(self, rank: int) -> tuple[Ints, Ints]:
        """The places of the keys that a process gives to others, by them, and their numbers."""
        pairs = np.flatnonzero(self.owner[self.needs.unit] == rank)  # by who receives them
        places = self.needs.places(pairs, self.unit)
        count = np.bitwise_count(self.needs.bits[pairs]).sum(1, dtype=np.int64)
        counts = np.bincount(self.needs.rank[pairs], weights=count, minlength=self.ranks)
        return places, counts.astype(np.int64)

    def received_tokens(self) -> Ints:
        """How many tokens' keys and values each process receives, `(ranks,)`."""
        count = np.bitwise_count(self.needs.bits).sum(1, dtype=np.int64)
        found = np.bincount(self.needs.rank, weights=count, minlength=self.ranks)
        return found.astype(np.int64)

    def sent_tokens(self) -> Ints:
        """How many tokens' keys and values each process gives, to all others together."""
        count = np.bitwise_count(self.needs.bits).sum(1, dtype=np.int64)
        found = np.bincount(self.owner[self.needs.unit], weights=count, minlength=self.ranks)
        return found.astype(np.int64)

    def received_bytes(
        self, heads: int, kv_heads: int, head_dim: int, *, size: int = 2, exact: int = 4
    ) -> tuple[Ints, Ints]:
        """What each process receives in the forward and in the backward pass, `(ranks,)` each.

        Forward these are keys and values, long queries of others, and the results of its own;
        backward the gradients of what it gave.

        Args:
            heads: of queries.
            kv_heads: of keys and of values.
            head_dim: numbers in each.
            size: bytes of a number.
            exact: bytes of a number of a result that is to be merged, and of its lse.
        """
        keys = 2 * kv_heads * head_dim * size
        query, answer = heads * head_dim * size, heads * (head_dim + 1) * exact
        own = np.bincount(self.owner[self.long // self.unit], minlength=self.ranks)
        foreign, returned = len(self.long) - own, own * (self.ranks - 1)
        forward = self.received_tokens() * keys + foreign * query + returned * answer
        backward = self.sent_tokens() * keys + foreign * answer + returned * query
        return forward, backward

    def long_of(self, rank: int) -> Ints:
        """The places of the long queries of a process."""
        own: Ints = self.long[self.owner[self.long // self.unit] == rank]
        return own

    def tiles(self) -> Ints:
        """How many tiles each process computes, over all layouts once, `(ranks,)`."""
        return self.costs([1] * len(self.grids), 1.0).astype(np.int64)

    def costs(self, uses: Sequence[int], partial: float) -> NDArray[np.float64]:
        """What each process computes, in full tiles, `(ranks,)`.

        Args:
            uses: how many heads follow each layout.
            partial: what a tile with a mask costs.
        """
        found = np.zeros(self.ranks)
        for grid, bits, use in zip(self.grids, self.long_bits, uses, strict=True):
            each = np.where(grid.mask_ids == FULL, 1.0, partial)
            rows = self.owner[grid.tile_rows()]
            found += use * np.bincount(rows, each, minlength=self.ranks)
            codes = np.unique(bits.number // self.unit * len(self.owner) + bits.columns)
            columns = self.owner[codes % len(self.owner)]
            found += use * partial * np.bincount(columns, minlength=self.ranks)
        return found

    # --- one process ---

    def near_layouts(self, rank: int) -> list[BlockLayout]:
        """What its queries read of its own keys, both in the slots of its units."""
        own = self.units(rank)
        return self._layouts(own, own, self.num_slots(own), self.num_slots(own))

    def far_units(self, rank: int) -> Ints:
        """Its units that read keys of others, ascending."""
        found = [np.zeros(0, dtype=np.int64)]
        for grid in self.grids:
            rows = grid.tile_rows()
            owner = self.owner[rows]
            far = (owner == rank) & (self.owner[grid.column_indices] != rank)
            found.append(np.unique(rows[far]).astype(np.int64))
        return np.unique(np.concatenate(found))

    def far_layouts(self, rank: int) -> list[BlockLayout]:
        """What the queries of `far_units` read of the keys `needed`, both in slots of units."""
        rows, needed = self.far_units(rank), self.needed(rank)
        packed = self.own_slots(rank) is None
        num_rows = int(self.lengths(rows).sum()) if packed else len(rows) * self.unit
        return self._layouts(rows, needed, num_rows, len(needed) * self.unit)

    def all_units(self, rank: int) -> Ints:
        """Its units and those of which it needs keys, ascending."""
        return np.union1d(self.units(rank), self.needed(rank))

    def all_layouts(self, rank: int) -> list[BlockLayout]:
        """What its queries read, the keys being in the slots of `all_units`."""
        own, columns = self.units(rank), self.all_units(rank)
        return self._layouts(own, columns, self.num_slots(own), len(columns) * self.unit)

    def long_layouts(self, rank: int) -> list[BlockLayout]:
        """What the long queries, all of them, read of its keys, which are in its slots."""
        own = self.units(rank)
        column_of = np.full(len(self.owner), -1)
        column_of[own] = np.arange(len(own))
        shape = len(self.long), self.num_slots(own)
        return [bits.layout(shape, self.unit, column_of) for bits in self.long_bits]

    def _layouts(self, rows: Ints, columns: Ints, query_len: int, kv_len: int) -> list[BlockLayout]:
        """The grids without all but some units, of queries and of keys."""
        row_of, column_of = (np.full(len(self.owner), -1) for _ in range(2))
        row_of[rows] = np.arange(len(rows))
        column_of[columns] = np.arange(len(columns))
        return [
            _arranged(
                (query_len, kv_len), self.unit,
                row_of[grid.tile_rows()], column_of[grid.column_indices],
                grid.mask_ids, grid.masks,
            )
            for grid in self.grids
        ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class LongBits:
    """What long queries read: for each and each unit, a row of bits.

    Shapes:
        number, columns: `(num_entries,)`, the number of the query and the unit
        bits: `(num_entries, ceil(unit / 8))`
    """

    number: Ints
    columns: Ints
    bits: Bytes

    def layout(self, shape: tuple[int, int], unit: int, column_of: Ints) -> BlockLayout:
        """The layout over some of the units; `column_of` is where each stands, -1 for nowhere."""
        column = column_of[self.columns]
        some = column >= 0
        number, column, bits = self.number[some], column[some], self.bits[some]
        width = len(column_of)
        codes, which = np.unique(number // unit * width + column, return_inverse=True)
        masks = np.zeros((len(codes), unit, bits.shape[1]), dtype=np.uint8)
        masks[which.reshape(-1), number % unit] = bits
        first, ids = different(masks)
        is_full = num_set(masks[first]) == unit * unit
        renumbered = np.where(is_full, FULL, np.cumsum(~is_full) - 1)
        return _arranged(
            shape, unit, codes // width, codes % width,
            renumbered[ids].astype(np.int32), masks[first[~is_full]],
        )  # fmt: skip


def _long_places(grid: BlockLayout, times: int) -> Ints:
    """Queries that read far more than those of half of the rows of tiles do on average."""
    unit = grid.block_m
    full = np.full((1, unit), grid.block_n)
    per_row = np.concatenate([np.bitwise_count(grid.masks).sum(2, dtype=np.int64), full])
    rows = grid.tile_rows()
    count = grid.num_query_blocks
    totals = np.bincount(rows, per_row.sum(1)[grid.mask_ids], minlength=count)
    some = totals[totals > 0]
    usual = float(np.median(some)) / unit if len(some) else 0.0
    least = max(times * usual, _LONG_TILES * unit)
    # No query of a row of tiles reads more than the largest of each tile together.
    most = np.bincount(rows, per_row.max(1)[grid.mask_ids], minlength=count)
    found = [np.zeros(0, dtype=np.int64)]
    for row in np.flatnonzero(most > least):
        own = grid.mask_ids[grid.row_offsets[row] : grid.row_offsets[row + 1]]
        ids, times_used = np.unique(own, return_counts=True)
        found.append(np.flatnonzero(times_used @ per_row[ids] > least) + row * unit)
    return np.concatenate(found)


def _take(grid: BlockLayout, long: Ints) -> tuple[BlockLayout, LongBits]:
    """A layout without its long queries, and what those read."""
    unit, width = grid.block_m, -(-grid.block_n // 8)
    if not len(long):
        none = np.zeros(0, dtype=np.int64)
        return grid, LongBits(none, none, np.zeros((0, width), dtype=np.uint8))
    full = np.full((1, unit, width), 255, dtype=np.uint8)
    full[:, :, -1] >>= -grid.block_n % 8
    masks = np.concatenate([grid.masks, full])
    ids = np.where(grid.mask_ids == FULL, len(grid.masks), grid.mask_ids).astype(np.int64)
    rows, columns = grid.tile_rows().astype(np.int64), grid.column_indices.astype(np.int64)

    row, local = np.divmod(long, unit)
    starts = grid.row_offsets[row]
    counts = grid.row_offsets[row + 1] - starts
    number = np.repeat(np.arange(len(long)), counts)
    tile = np.arange(len(number)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
    bits = masks[ids[tile], local[number]]
    some = bits.any(1)
    found = LongBits(number[some], columns[tile[some]], bits[some])

    # Tiles of a row of tiles that have one mask stay alike.
    touched = np.unique(tile)
    height = grid.num_query_blocks
    is_long = np.zeros((height, unit), dtype=np.bool_)
    is_long[row, local] = True
    kinds, which = np.unique(ids[touched] * height + rows[touched], return_inverse=True)
    cleared = masks[kinds // height]
    cleared[is_long[kinds % height]] = 0
    ids[touched] = len(masks) + which.reshape(-1)
    masks = np.concatenate([masks, cleared])
    first, which = different(masks)
    kept = num_set(masks)[ids] > 0
    of_tile = which[ids[kept]]
    mask_ids = np.where(of_tile == which[len(grid.masks)], FULL, of_tile).astype(np.int32)
    shape = grid.query_len, grid.kv_len
    return _arranged(shape, unit, rows[kept], columns[kept], mask_ids, masks[first]), found


def _arranged(
    shape: tuple[int, int],
    unit: int,
    rows: Ints,
    columns: Ints,
    mask_ids: NDArray[np.int32],
    masks: Bytes,
) -> BlockLayout:
    """A layout of the tiles that have a row and a column, in order, with the masks they use."""
    kept = np.flatnonzero((rows >= 0) & (columns >= 0))
    order = kept[np.lexsort((columns[kept], rows[kept]))]
    counts = np.bincount(rows[order], minlength=-(-shape[0] // unit))
    ids = mask_ids[order].astype(np.int64)
    partial = ids != FULL
    used, ids[partial] = np.unique(ids[partial], return_inverse=True)
    return BlockLayout(
        shape[0], shape[1], unit, unit,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        columns[order].astype(np.int32), ids.astype(np.int32), masks[used],
    )  # fmt: skip
