"""Tile rows: what is executed, one half of a plan; forward, or transposed for keys and values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL, BlockLayout

NO_PLACE = -1
"""In lists of places: nothing stands here."""

_AT_ONCE = 1 << 14
"""Tiles that are counted at once."""


@dataclass(frozen=True, eq=False)
class TileRows:
    """Rows of tiles over places, each with the tiles that it computes.

    A row of tiles has `block_m` places: the first `ceil(num_rows / block_m)` rows have consecutive
    ones, row `r` from `r * block_m` on; each further row has those that `listed` names. A place
    that is listed belongs to its listed row alone: what its regular row computes for it is void.

    Row `r` computes the tiles `row_offsets[r]:row_offsets[r + 1]`. Tile `t` meets the `block_n`
    places from `columns[t] * block_n` on or, if `columns[t]` is negative, those that
    `gathered[-1 - columns[t]]` names. Which pairs count says `masks[mask_ids[t]]`, or all if it is
    `FULL`. Masks are bits as in `BlockLayout`; bits at places that are not there are 0.

    `items` are the tiles as they are handed out, the longest first: item `(row, start, stop, slot)`
    computes tiles `start:stop` of a row and, if `slot` is not negative, leaves a partial result
    there; `merges` lists the rows that were split, `(row, first_slot, num_slots)`.

    For the transposed half rows are keys, and the places a tile meets are queries.

    Shapes:
        row_offsets: int64 `(num_tile_rows + 1,)`
        columns, mask_ids: int32 `(num_tiles,)`
        masks: uint8 `(num_masks, block_m, ceil(block_n / 8))`
        gathered: int32 `(num_gathered, block_n)`, `NO_PLACE` behind the last
        listed: int32 `(num_listed, block_m)`, likewise
        items: int32 `(num_items, 4)`; merges: int32 `(num_merges, 3)`
    """

    num_rows: int
    num_columns: int
    block_m: int
    block_n: int
    row_offsets: NDArray[np.int64]
    columns: NDArray[np.int32]
    mask_ids: NDArray[np.int32]
    masks: NDArray[np.uint8]
    gathered: NDArray[np.int32]
    listed: NDArray[np.int32]
    items: NDArray[np.int32]
    merges: NDArray[np.int32]

    @classmethod
    def of(cls, layout: BlockLayout) -> TileRows:
        """The tiles of a layout, nothing packed; each row is one item, in order."""
        rows = cls(
            layout.query_len, layout.kv_len, layout.block_m, layout.block_n,
            layout.row_offsets, layout.column_indices, layout.mask_ids, layout.masks,
            np.zeros((0, layout.block_n), dtype=np.int32),
            np.zeros((0, layout.block_m), dtype=np.int32),
            np.zeros((0, 4), dtype=np.int32), np.zeros((0, 3), dtype=np.int32),
        )  # fmt: skip
        return replace(rows, items=rows.whole_rows())

    def whole_rows(self) -> NDArray[np.int32]:
        """Items that are whole rows, without those that compute nothing."""
        starts, stops = self.row_offsets[:-1], self.row_offsets[1:]
        rows = np.flatnonzero(starts < stops)
        slots = np.full(len(rows), -1)
        return np.stack([rows, starts[rows], stops[rows], slots], axis=1).astype(np.int32)

    @property
    def num_regular(self) -> int:
        """Rows of tiles with consecutive places."""
        return -(-self.num_rows // self.block_m)

    @property
    def num_tiles(self) -> int:
        return len(self.columns)

    @property
    def num_full(self) -> int:
        return int(np.count_nonzero(self.mask_ids == FULL))

    @property
    def num_gathered(self) -> int:
        return int(np.count_nonzero(self.columns < 0))

    @property
    def num_partial(self) -> int:
        """Tiles with a mask that are not gathered."""
        return int(np.count_nonzero((self.mask_ids != FULL) & (self.columns >= 0)))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def tile_rows(self) -> NDArray[np.int64]:
        """The row of each tile, `(num_tiles,)`."""
        return np.repeat(np.arange(len(self.row_offsets) - 1), np.diff(self.row_offsets))

    def places_of_row(self, row: int) -> NDArray[np.int64]:
        """The places of a row of tiles, `NO_PLACE` where there is none, `(block_m,)`."""
        if row < self.num_regular:
            places = row * self.block_m + np.arange(self.block_m)
            return np.where(places < self.num_rows, places, NO_PLACE)
        listed: NDArray[np.int64] = self.listed[row - self.num_regular].astype(np.int64)
        return listed

    def places_of_tile(self, tile: int) -> NDArray[np.int64]:
        """The places that a tile meets, likewise, `(block_n,)`."""
        column = int(self.columns[tile])
        if column < 0:
            gathered: NDArray[np.int64] = self.gathered[-1 - column].astype(np.int64)
            return gathered
        places = column * self.block_n + np.arange(self.block_n)
        return np.where(places < self.num_columns, places, NO_PLACE)

    def _where(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each place its row of tiles, times `block_m`, plus its number in it."""
        if not len(self.listed):
            return places
        flat = self.listed.reshape(-1)
        order = np.argsort(flat, kind="stable")
        found = order[np.minimum(np.searchsorted(flat[order], places), len(flat) - 1)]
        return np.where(flat[found] == places, self.num_regular * self.block_m + found, places)

    def reads_of(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of some places: which of them each pair is of, and the place it meets."""
        row, local = np.divmod(self._where(places), self.block_m)
        starts = self.row_offsets[row]
        counts = self.row_offsets[row + 1] - starts
        number = np.repeat(np.arange(len(places)), counts)
        tile = np.arange(len(number)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        # FULL is -1, the last of all.
        full = np.full((1, *self.masks.shape[1:]), 255, dtype=np.uint8)
        bits = np.concatenate([self.masks, full])[self.mask_ids[tile], local[number]]
        used, column = np.nonzero(
            np.unpackbits(bits, axis=-1, count=self.block_n, bitorder="little")
        )
        met = self.columns[tile[used]].astype(np.int64) * self.block_n + column
        listed = np.flatnonzero(met < 0)
        met[listed] = self.gathered[-1 - self.columns[tile[used[listed]]], column[listed]]
        return number[used], met

    def row_counts(self) -> NDArray[np.int64]:
        """How many pairs each place has, `(num_rows,)`."""
        per_mask = np.bitwise_count(self.masks).sum(-1, dtype=np.int64)
        per_mask = np.concatenate([per_mask, np.full((1, self.block_m), self.block_n)])
        counts = np.zeros((len(self.row_offsets) - 1, self.block_m), dtype=np.int64)
        rows = self.tile_rows()
        for first in range(0, self.num_tiles, _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            np.add.at(counts, rows[some], per_mask[self.mask_ids[some]])
        return counts.reshape(-1)[self._where(np.arange(self.num_rows))]

    def places_used(self) -> NDArray[np.bool_]:
        """Which places have a pair, `(num_rows,)`."""
        return self.row_counts() > 0

    def to_dense(self) -> NDArray[np.bool_]:
        """Which pairs are computed, `(num_rows, num_columns)`; meant for small lengths."""
        bits = np.unpackbits(self.masks, axis=-1, count=self.block_n, bitorder="little")
        full = np.ones((1, self.block_m, self.block_n), dtype=np.bool_)
        masks = np.concatenate([bits.astype(np.bool_), full])
        dense = np.zeros((self.num_rows, self.num_columns), dtype=np.bool_)
        owned = np.zeros(self.num_rows, dtype=np.bool_)
        owned[self.listed[self.listed != NO_PLACE]] = True
        for row in range(len(self.row_offsets) - 1):
            places = self.places_of_row(row)
            own = places != NO_PLACE
            if row < self.num_regular:
                own &= ~owned[np.maximum(places, 0)]
            for tile in range(int(self.row_offsets[row]), int(self.row_offsets[row + 1])):
                met = self.places_of_tile(tile)
                there = met != NO_PLACE
                mask = masks[self.mask_ids[tile]][np.ix_(own, there)]
                dense[np.ix_(places[own], met[there])] |= mask
        return dense

    def fault(self) -> str | None:
        """What is wrong with arrays that come from outside, or `None` when they keep all promises.

        Whatever passes can be executed without reading or writing beyond any array.
        """
        shapes = {
            "row_offsets": (np.int64, (None,)),
            "columns": (np.int32, (None,)),
            "mask_ids": (np.int32, (self.num_tiles,)),
            "masks": (np.uint8, (None, self.block_m, -(-self.block_n // 8))),
            "gathered": (np.int32, (None, self.block_n)),
            "listed": (np.int32, (None, self.block_m)),
            "items": (np.int32, (None, 4)),
            "merges": (np.int32, (None, 3)),
        }
        for name, (dtype, shape) in shapes.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != len(shape):
                return f"{name} must be {np.dtype(dtype)} in {len(shape)} dimensions"
            if any(
                want is not None and want != got
                for want, got in zip(shape, array.shape, strict=True)
            ):
                return f"{name} must have shape {shape}, got {array.shape}"
        return (
            self._faulty_tiles()
            or self._faulty_lists()
            or self._faulty_full()
            or self._faulty_items()
        )

    def _faulty_tiles(self) -> str | None:
        offsets = self.row_offsets
        if len(offsets) != self.num_regular + len(self.listed) + 1:
            return "row_offsets must have one entry more than there are rows of tiles"
        if offsets[0] != 0 or offsets[-1] != self.num_tiles or (np.diff(offsets) < 0).any():
            return f"row_offsets must ascend from 0 to the number of tiles, {self.num_tiles}"
        if not _within(self.columns, -len(self.gathered), -(-self.num_columns // self.block_n)):
            return "columns must be those of tiles or of gathered lists"
        if not _within(self.mask_ids, FULL, len(self.masks)):
            return "mask_ids must be numbers of masks"
        bits = np.unpackbits(self.masks, axis=-1, bitorder="little")[..., self.block_n :]
        if bits.any():
            return "masks must have no bits beyond their columns"
        full = self.mask_ids == FULL
        last_row, last_column = self.num_rows // self.block_m, self.num_columns // self.block_n
        beyond = (self.tile_rows() == last_row) & (self.num_rows % self.block_m > 0)
        beyond |= (self.columns == last_column) & (self.num_columns % self.block_n > 0)
        if (full & beyond).any():
            return "a tile over the border must have a mask"
        return None

    def _faulty_full(self) -> str | None:
        """Full tiles of lists that are not full."""
        full = np.flatnonzero(self.mask_ids == FULL)
        lists = -1 - self.columns[full[self.columns[full] < 0]].astype(np.int64)
        rows = self.tile_rows()[full] - self.num_regular
        if (self.gathered[lists] == NO_PLACE).any() or (
            self.listed[rows[rows >= 0]] == NO_PLACE
        ).any():
            return "a tile with an empty place must have a mask"
        return None

    def _faulty_lists(self) -> str | None:
        for name, bound in (("gathered", self.num_columns), ("listed", self.num_rows)):
            lists = getattr(self, name)
            there = lists != NO_PLACE
            if not _within(lists, NO_PLACE, bound):
                return f"{name} must hold places below {bound}"
            if (~there[:, :-1] & there[:, 1:]).any():
                return f"{name} must have its empty places last"
        own = self.listed[self.listed != NO_PLACE]
        if len(np.unique(own)) != len(own):
            return "listed must name no place twice"
        return None

    def _faulty_items(self) -> str | None:
        items, merges = self.items.astype(np.int64), self.merges.astype(np.int64)
        num_rows = len(self.row_offsets) - 1
        row, start, stop, slot = items.T
        if not _within(row, 0, num_rows):
            return "items must be of rows of tiles"
        if (start >= stop).any() or (
            (start < self.row_offsets[row]) | (stop > self.row_offsets[row + 1])
        ).any():
            return "items must be tiles of their rows"
        order = np.argsort(start)
        ends = np.concatenate([[0], stop[order]])
        if not np.array_equal(ends[:-1], start[order]) or ends[-1] != self.num_tiles:
            return "items must cover every tile once"
        slots = np.sort(slot[slot >= 0])
        if (slot < -1).any() or not np.array_equal(slots, np.arange(len(slots))):
            return "the slots of items must be numbered from 0, each once"
        split, first, count = merges.T
        if not _within(split, 0, num_rows) or (count < 1).any() or count.sum() != len(slots):
            return "merges must name the rows that are split"
        if not np.array_equal(first, np.cumsum(count) - count):
            return "merges must have their slots one after the other"
        owner = np.repeat(split, count)
        in_slots = np.flatnonzero(slot >= 0)
        if not np.array_equal(owner[slot[in_slots]], row[in_slots]):
            return "merges must join the items of one row"
        whole = (start == self.row_offsets[row]) & (stop == self.row_offsets[row + 1])
        if ((slot < 0) & ~whole).any():
            return "an item without a slot must be a whole row"
        return None

    def fingerprint(self) -> bytes:
        """A digest: equal tile rows, and in practice only those, have equal ones."""
        sizes = (self.num_rows, self.num_columns, self.block_m, self.block_n)
        digest = hashlib.sha256(repr(sizes).encode())
        for name, array in self.arrays.items():
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()


def _within(numbers: NDArray[Any], least: int, stop: int) -> bool:
    return not len(numbers) or (int(numbers.min()) >= least and int(numbers.max()) < stop)
