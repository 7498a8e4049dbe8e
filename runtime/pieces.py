"""Pieces: a block layout in the shapes that dense kernels on a CPU run well.

The tiles of a layout are right for a GPU. A CPU gains more from regularity: the queries of a window
slide over the keys with a fixed step, so that strided views replace copies (`Band`); global keys
are few and the same for all queries (`SharedKeys`); global queries are few and read nearly
everything (`LongRows`). What is left is copied together (`Gathered`). `attnloom.runtime.cut` makes
the pieces.

Eight queries that read the first key, the key before them, and themselves; query 5 reads all:

    █ · · · · · · ·
    █ █ · · · · · ·        Band: query 1 + u reads keys u and u + 1, for u = 0 .. 6
    █ █ █ · · · · ·        SharedKeys: queries 2 .. 7 also read key 0
    █ · █ █ · · · ·        LongRows: query 5 reads keys 0 .. 7, whatever the others say of it
    █ · · █ █ · · ·        Gathered: query 0 reads key 0
    █ █ █ █ █ █ █ █
    █ · · · · █ █ ·
    █ · · · · · █ █

Every pair of the layout is in exactly one piece, except that the rows of `LongRows` are theirs
alone: whatever other pieces say about those rows is void.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    Query `first_rows[u] + i` reads key `k` of its list where the masks `mask_ids[u]` of table
    `table` of the `Pieces`, one beside the other, say so at `[i, k]`. Places of the list that no
    query reads may hold any key.

    Shapes:
        first_rows: `(num_units,)`, ascending; columns: `(num_units, width)`
        mask_ids: `(num_units, num_masks)`
        silent: `(num_units, block_m)`, the queries that read no key here; `None` when all do.
    """

    first_rows: Ints
    columns: Ints
    block_n: int
    """Keys of a column: the list is of `columns[u, t]*block_n + j`."""
    table: int
    mask_ids: Ints
    silent: Bools | None
    is_full: bool
    """Whether every pair is read, so that no mask is needed."""
    merges: bool
    """Whether another piece has given these rows a result before."""


@dataclass(frozen=True, eq=False)
class LongRows:
    """Single queries that read far more keys than the others: all within `first_key..stop_key`.

    Shapes:
        rows: `(num_rows,)`, ascending
        mask: bits `(num_rows, ceil((stop_key - first_key) / 8))`, or `None` when all are read.
    """

    rows: Ints
    first_key: int
    stop_key: int
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False)
class Pieces:
    """A layout, cut. Run in the order of the fields.

    Shapes:
        bare: `(num_ranges, 2)`: half-open ranges of queries that have no result so far, and get an
            empty one.
        tables: masks of the gathered blocks, each `(num_masks, block_m, block_n)`.
    """

    bands: tuple[Band, ...]
    shared: tuple[SharedKeys, ...]
    bare: Ints
    gathered: tuple[Gathered, ...]
    long_rows: tuple[LongRows, ...]
    tables: tuple[Bools, ...]

    @property
    def num_gathered_pairs(self) -> int:
        """Pairs in the gathered blocks, read or not."""
        return sum(
            part.columns.size * part.block_n * self.tables[part.table].shape[1]
            for part in self.gathered
        )
