"""The tiles of a layout while pieces are being taken out of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.runtime.pieces import Bools, Ints

FULL_ID = 0
"""The entry of the table in which every pair is read."""

EMPTY_ID = 1
"""The entry in which none is; no tile that is left points to it."""

Bytes = NDArray[np.uint8]


class Tiles:
    """What is left of a layout: tile `t`, at (`rows[t]`, `columns[t]`), is `table[ids[t]]`.

    The tiles stay in the order of the layout: by rows, then by columns. The table only grows.

    Shapes:
        rows, columns, ids: `(num_tiles,)`
        table: packed bits `(num_masks, block_m, ceil(block_n / 8))`
    """

    def __init__(self, layout: BlockLayout) -> None:
        self.layout = layout
        full = np.ones((1, layout.block_m, layout.block_n), dtype=np.bool_)
        packed = np.packbits(full, axis=-1, bitorder="little")
        self.table: Bytes = np.concatenate([packed, np.zeros_like(packed), layout.masks])
        self.rows: Ints = layout.tile_rows().astype(np.int64)
        self.columns: Ints = layout.column_indices.astype(np.int64)
        self.ids: Ints = np.where(
            layout.mask_ids == FULL, FULL_ID, layout.mask_ids.astype(np.int64) + 2
        )

    def __len__(self) -> int:
        return len(self.ids)

    def of_row(self, row: int) -> slice:
        """The tiles that stand in a row of tiles."""
        start, stop = np.searchsorted(self.rows, [row, row + 1]).tolist()
        return slice(start, stop)

    def unpacked(self, ids: Ints) -> Bools:
        """Entries of the table as booleans, `(len(ids), block_m, block_n)`."""
        bits = np.unpackbits(self.table[ids], axis=-1, count=self.layout.block_n, bitorder="little")
        return bits.astype(np.bool_)

    def row_counts(self) -> Ints:
        """How many keys each query reads in the tiles left, `(num_query_blocks * block_m,)`."""
        per_mask = np.bitwise_count(self.table).sum(-1, dtype=np.int64)
        counts = [
            per_mask[self.ids[self.of_row(row)]].sum(0)
            for row in range(self.layout.num_query_blocks)
        ]
        return np.concatenate(counts)

    def lacks(self, ids: Ints, wanted: Ints) -> Bools:
        """Whether the entry `ids[t]` lacks some pair of the entry `wanted[t]`."""
        first, second, which = distinct_pairs(ids, wanted, len(self.table))
        lacking: Bools = np.any(self.table[second] & ~self.table[first], axis=(1, 2))
        return lacking[which]

    def add(self, masks: Bytes) -> Ints:
        """Enter masks into the table; their ids, which are the known ones for full and empty."""
        ids = np.arange(len(masks)) + len(self.table)
        ids[(masks == self.table[FULL_ID]).all((1, 2))] = FULL_ID
        ids[~masks.any((1, 2))] = EMPTY_ID
        self.table = np.concatenate([self.table, masks])
        return ids

    def remove(self, where: Bools, taken: Bytes, taken_ids: Ints) -> None:
        """Take the bits `taken[taken_ids]` out of the tiles at `where`; drop emptied tiles."""
        first, second, which = distinct_pairs(self.ids[where], taken_ids, len(taken))
        self.ids[where] = self.add(self.table[first] & ~taken[second])[which]
        self.keep(self.ids != EMPTY_ID)

    def keep(self, where: Bools) -> None:
        """Drop all tiles but those at `where`."""
        self.rows, self.columns, self.ids = self.rows[where], self.columns[where], self.ids[where]


def distinct_pairs(first: Ints, second: Ints, stop: int) -> tuple[Ints, Ints, Ints]:
    """The distinct pairs `(first[t], second[t])`, and which of them `t` is; `second < stop`.

    >>> a, b, which = distinct_pairs(np.array([7, 3, 7]), np.array([1, 0, 1]), 2)
    >>> a.tolist(), b.tolist(), which.tolist()
    ([3, 7], [0, 1], [1, 0, 1])
    """
    pairs, which = np.unique(first * stop + second, return_inverse=True)
    return pairs // stop, pairs % stop, which.reshape(-1)


def ranges(flags: Bools) -> Ints:
    """The runs of true entries as half-open ranges, `(num_ranges, 2)`.

    >>> ranges(np.array([True, True, False, True])).tolist()
    [[0, 2], [3, 4]]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return edges.reshape(-1, 2).astype(np.int64)
