"""A sequence over several processes: who has which tiles, and who needs which keys of whom.

The sequence is divided into *units*, as long as a tile. Each process owns some: their queries, keys
and values. It computes the rows of its queries, for which it needs units of others: a window's
neighbours, global tokens, random links. *Long* queries, which read far more than most, are not
served so, for their process would need everything: each process computes what they read of its own
keys, and the results are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.bits import different, num_set
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.model import CostModel

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

BALANCES = ("auto", "contiguous", "head_tail", "cost")

_EVEN = 1.1
"""How much more than the mean a process may compute."""

_LONG = 8
"""How many times as many keys as half of the queries a long query reads, at the least."""

_LONG_TILES = 4
"""And how many tiles' worth of keys."""


@dataclass(frozen=True, eq=False)
class Division:
    """Which process owns each unit, and what follows from it for all of them.

    `grids` are the layouts of the heads without the long queries; `long` are those, by their owners
    and then by position.

    Shapes:
        owner: `(num_units,)`; long: `(num_long,)`
    """

    length: int
    unit: int
    ranks: int
    owner: Ints
    grids: tuple[BlockLayout, ...]
    long: Ints
    long_bits: tuple[LongBits, ...]

    @classmethod
    def of(cls, grids: Sequence[BlockLayout], owner: Ints, ranks: int) -> Division:
        """Divide layouts, in the order of positions and with square tiles.

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
        if not np.array_equal(np.unique(owner), np.arange(ranks)):
            raise ValueError(
                f"{first.query_len:,} tokens in tiles of {first.block_m} are "
                f"{len(owner)} for {ranks} processes: compile with a smaller block"
            )
        unit = first.block_m
        positions = np.unique(np.concatenate([_long_positions(grid) for grid in grids]))
        long = positions[np.argsort(owner[positions // unit], kind="stable")]
        taken = [_take(grid, long) for grid in grids]
        return cls(
            first.query_len, unit, ranks, owner,
            tuple(short for short, _ in taken), long, tuple(bits for _, bits in taken),
        )  # fmt: skip

    def units(self, rank: int) -> Ints:
        """The units of a process, ascending."""
        return np.flatnonzero(self.owner == rank)

    def positions(self, rank: int) -> Ints:
        """The positions of a process, ascending."""
        return self.positions_of(self.units(rank))

    def positions_of(self, units: Ints) -> Ints:
        """The positions of some units."""
        positions = (units[:, None] * self.unit + np.arange(self.unit)).reshape(-1)
        inside: Ints = positions[positions < self.length]
        return inside

    @cached_property
    def _needs(self) -> tuple[Ints, Ints]:
        """Pairs of a process and a unit of another that it needs, in ascending order."""
        count = len(self.owner)
        codes = [
            self.owner[grid.tile_rows()] * count + grid.column_indices.astype(np.int64)
            for grid in self.grids
        ]
        rank, unit = np.divmod(np.unique(np.concatenate(codes)), count)
        remote = self.owner[unit] != rank
        return rank[remote], unit[remote]

    def needed(self, rank: int) -> Ints:
        """The units of others that a process needs, by their owners and then ascending."""
        ranks, units = self._needs
        own: Ints = units[ranks == rank]
        ordered: Ints = own[np.argsort(self.owner[own], kind="stable")]
        return ordered

    def sent(self, rank: int, to: int) -> Ints:
        """The units that a process gives to another, ascending."""
        ranks, units = self._needs
        theirs: Ints = units[ranks == to]
        mine: Ints = theirs[self.owner[theirs] == rank]
        return mine

    def lengths(self, units: Ints) -> Ints:
        """The tokens of each unit: the last may be short."""
        return np.minimum(self.unit, self.length - units * self.unit)

    def received_tokens(self) -> Ints:
        """How many tokens' keys and values each process receives, `(ranks,)`."""
        rank, unit = self._needs
        return np.bincount(rank, weights=self.lengths(unit), minlength=self.ranks).astype(np.int64)

    def long_of(self, rank: int) -> Ints:
        """The long queries of a process."""
        own: Ints = self.long[self.owner[self.long // self.unit] == rank]
        return own

    def tiles(self) -> Ints:
        """How many tiles each process computes, over all layouts once, `(ranks,)`."""
        found = np.zeros(self.ranks, dtype=np.int64)
        for grid, bits in zip(self.grids, self.long_bits, strict=True):
            rows = self.owner[grid.tile_rows()]
            found += np.bincount(rows, minlength=self.ranks)
            codes = np.unique(bits.number // self.unit * len(self.owner) + bits.columns)
            columns = self.owner[codes % len(self.owner)]
            found += np.bincount(columns, minlength=self.ranks)
        return found

    # --- one process ---

    def layouts(self, rank: int) -> list[BlockLayout]:
        """Its rows: queries as in `positions`, keys by units, `units` and then `needed`.

        Each unit has room for a whole tile of keys, also where it is shorter.
        """
        own = self.units(rank)
        columns = np.concatenate([own, self.needed(rank)])
        row_of, column_of = (np.full(len(self.owner), -1) for _ in range(2))
        row_of[own] = np.arange(len(own))
        column_of[columns] = np.arange(len(columns))
        return [
            _arranged(
                (int(self.lengths(own).sum()), len(columns) * self.unit), self.unit,
                row_of[grid.tile_rows()], column_of[grid.column_indices],
                grid.mask_ids, grid.masks,
            )
            for grid in self.grids
        ]  # fmt: skip

    def long_layouts(self, rank: int) -> list[BlockLayout]:
        """What the long queries, all of them, read of its keys, as in `positions`."""
        own = self.units(rank)
        column_of = np.full(len(self.owner), -1)
        column_of[own] = np.arange(len(own))
        shape = len(self.long), int(self.lengths(own).sum())
        return [bits.layout(shape, self.unit, column_of) for bits in self.long_bits]


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


def divide(
    grids: Sequence[BlockLayout],
    ranks: int,
    balance: str = "auto",
    *,
    uses: Sequence[int] | None = None,
    model: CostModel | None = None,
) -> Division:
    """Divide layouts over processes.

    Args:
        grids: the different layouts, in the order of positions and with square tiles.
        ranks: how many processes.
        balance: one of `BALANCES`; `"auto"` is the first of the others that is even, or else the
            most even one.
        uses: how many heads follow each layout; one each when not given.
        model: what tiles cost; a large GPU when not given.

    Raises:
        ValueError: as `Division.of`.
    """
    units, model = grids[0].num_query_blocks, model or CostModel()
    costs = np.zeros(units)
    for grid, use in zip(grids, uses or [1] * len(grids), strict=True):
        each = np.where(grid.mask_ids == FULL, 1.0, model.partial)
        costs += use * np.bincount(grid.tile_rows(), each, minlength=units)
    makers: dict[str, Callable[[], Ints]] = {
        "contiguous": lambda: contiguous(units, ranks),
        "head_tail": lambda: head_tail(units, ranks),
        "cost": lambda: by_cost(costs, ranks),
    }
    if balance != "auto":
        return Division.of(grids, makers[balance](), ranks)
    found = []
    for make in makers.values():
        owner = make()
        if len(np.unique(owner)) < ranks:
            continue
        division = Division.of(grids, owner, ranks)
        tiles = division.tiles()
        uneven = float(tiles.max() / max(tiles.mean(), 1e-300))
        if uneven <= _EVEN:
            return division
        found.append((uneven, division))
    if not found:
        return Division.of(grids, contiguous(units, ranks), ranks)
    return min(found, key=lambda one: one[0])[1]


def contiguous(units: int, ranks: int) -> Ints:
    """Each process has neighbours, and as many as the others to within one.

    >>> contiguous(5, 2).tolist()
    [0, 0, 1, 1, 1]
    """
    return -(-(np.arange(units) + 1) * ranks // units) - 1


def head_tail(units: int, ranks: int) -> Ints:
    """Each process has a stretch of the first half, and its mirror image in the second.

    Causal rows, which grow, then come to the same for all.

    >>> head_tail(8, 2).tolist()
    [0, 0, 1, 1, 1, 1, 0, 0]
    """
    stretch = contiguous(units, 2 * ranks)
    return np.minimum(stretch, 2 * ranks - 1 - stretch)


def by_cost(costs: NDArray[np.float64], ranks: int) -> Ints:
    """Units in stretches of about equal cost, in the order of positions.

    >>> by_cost(np.array([4.0, 1, 1, 1, 1]), 2).tolist()
    [0, 1, 1, 1, 1]
    """
    units = len(costs)
    shares = np.cumsum(costs) / max(costs.sum(), 1e-300) * ranks
    ends = np.searchsorted(shares, np.arange(1, ranks) - 1e-9) + 1
    # Nobody is left with nothing: each has a unit at least, and leaves one for each that follows.
    at = np.arange(1, ranks)
    ends = np.minimum(np.maximum.accumulate(np.maximum(ends, at) - at) + at, units - ranks + at)
    return np.searchsorted(ends, np.arange(units), side="right")


def _long_positions(grid: BlockLayout) -> Ints:
    """Queries that read far more than those of half of the rows of tiles do on average."""
    unit = grid.block_m
    full = np.full((1, unit), grid.block_n)
    per_row = np.concatenate([np.bitwise_count(grid.masks).sum(2, dtype=np.int64), full])
    rows = grid.tile_rows()
    count = grid.num_query_blocks
    totals = np.bincount(rows, per_row.sum(1)[grid.mask_ids], minlength=count)
    some = totals[totals > 0]
    usual = float(np.median(some)) / unit if len(some) else 0.0
    least = max(_LONG * usual, _LONG_TILES * unit)
    # No query of a row of tiles reads more than the largest of each tile together.
    most = np.bincount(rows, per_row.max(1)[grid.mask_ids], minlength=count)
    found = [np.zeros(0, dtype=np.int64)]
    for row in np.flatnonzero(most > least):
        own = grid.mask_ids[grid.row_offsets[row] : grid.row_offsets[row + 1]]
        found.append(np.flatnonzero(per_row[own].sum(0) > least) + row * unit)
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
    """A layout of the tiles that have a row, in order, with the masks that they use."""
    kept = np.flatnonzero(rows >= 0)
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
