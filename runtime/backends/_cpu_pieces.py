"""The pieces of a layout as tensors, ready to be run: what both passes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.compiler.tiles import TileRows
from attnloom.runtime.cut import cut
from attnloom.runtime.cut_bands import RowsOfBand
from attnloom.runtime.pieces import Band, Gathered, LongRows, Pieces, SharedKeys

CHUNK_ELEMENTS = 1 << 22
"""Elements of the largest tensor made for one chunk of a piece. Larger chunks cost more memory, and
smaller ones more meetings of the threads, each of which waits for the slowest."""

_TABLE_ELEMENTS = 1 << 24
"""Elements of a table of masks up to which it is kept as numbers rather than as booleans."""

_KEPT_PAIRS = 1 << 22
"""Gathered pairs of a layout up to which its chunks are kept from call to call."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some units of a `Gathered`, as indices. Their queries ascend.

    Shapes:
        rows: `(num_units * block_m,)`, those beyond the last query clipped to it
        num_valid: how many rows are not clipped; they come first
        keys: `(num_units * num_keys,)`, clipped likewise, or the range of the only unit's keys
        blocks: `(num_units * width,)`, the numbers of the blocks of `block_n` keys
        mask: `(num_units, block_m, num_keys)`, 0 or -inf
        silent: `(num_units * block_m,)`, the rows that read nothing here
    """

    num_units: int
    rows: torch.Tensor
    num_valid: int
    keys: torch.Tensor | slice
    blocks: torch.Tensor
    mask: torch.Tensor | None
    block_n: int
    silent: torch.Tensor | None
    merges: bool


@dataclass(frozen=True, eq=False)
class Prepared:
    """The pieces of a layout with their constant tensors."""

    pieces: Pieces
    query_len: int
    kv_len: int
    band_masks: tuple[torch.Tensor | None, ...]
    shared_keys: tuple[torch.Tensor, ...]
    tables: tuple[torch.Tensor, ...]
    kept: dict[int, tuple[Chunk, ...]] = field(default_factory=dict)
    """Chunks made before, by head_dim, where they are small enough to be kept."""

    @classmethod
    def of(cls, rows: TileRows, rows_of_band: RowsOfBand) -> Prepared:
        """Cut tile rows, and make the tensors."""
        pieces = cut(rows, rows_of_band=rows_of_band)
        tables = tuple(torch.from_numpy(table) for table in pieces.tables)
        return cls(
            pieces,
            rows.num_rows,
            rows.num_columns,
            tuple(None if b.mask is None else additive(_tensor(b.mask)) for b in pieces.bands),
            tuple(torch.from_numpy(part.keys) for part in pieces.shared),
            tuple(
                additive(table) if table.numel() <= _TABLE_ELEMENTS else table for table in tables
            ),
        )

    def bands(self) -> Iterator[tuple[Band, torch.Tensor | None]]:
        """The bands with their masks, 0 or -inf."""
        return zip(self.pieces.bands, self.band_masks, strict=True)

    def shared(self) -> Iterator[tuple[SharedKeys, torch.Tensor]]:
        """The shared keys with their indices."""
        return zip(self.pieces.shared, self.shared_keys, strict=True)

    def chunks(self, head_dim: int) -> Iterator[Chunk]:
        """The gathered units, cut so that keys and mask of a chunk stay small."""
        if head_dim not in self.kept:
            chunks = self._make_chunks(head_dim)
            if self.pieces.num_gathered_pairs > _KEPT_PAIRS:
                return chunks
            self.kept[head_dim] = tuple(chunks)
        return iter(self.kept[head_dim])

    def _make_chunks(self, head_dim: int) -> Iterator[Chunk]:
        for part in self.pieces.gathered:
            num_keys = part.columns.shape[1] * part.block_n
            each = num_keys * max(head_dim, self.tables[part.table].shape[1])
            step = max(1, CHUNK_ELEMENTS // 4 // each)
            for start in range(0, len(part.first_rows), step):
                yield self._chunk(part, slice(start, start + step))

    def _chunk(self, part: Gathered, units: slice) -> Chunk:
        table, block_n = self.tables[part.table], part.block_n
        block_m = table.shape[1]
        first_rows, columns = part.first_rows[units], part.columns[units]
        rows = (first_rows[:, None] + np.arange(block_m)).reshape(-1)
        first, last = int(columns[0, 0]), int(columns[0, -1])
        keys: torch.Tensor | slice
        # Keys that the plan lists are in any order.
        is_range = part.table == 0 and len(columns) == 1 and last - first == columns.shape[1] - 1
        if is_range and (last + 1) * block_n <= self.kv_len:
            keys = slice(first * block_n, (last + 1) * block_n)
        else:
            every = (columns[:, :, None] * block_n + np.arange(block_n)).reshape(-1)
            keys = torch.from_numpy(np.minimum(every, self.kv_len - 1))
        mask = None
        if not part.is_full:
            ids = torch.from_numpy(np.ascontiguousarray(part.mask_ids[units]))
            tiles = table[ids].transpose(1, 2).reshape(len(ids), block_m, -1)
            mask = additive(tiles) if tiles.dtype == torch.bool else tiles
        return Chunk(
            len(columns),
            torch.from_numpy(np.minimum(rows, self.query_len - 1)),
            int(np.count_nonzero(rows < self.query_len)),
            keys,
            torch.from_numpy(columns.reshape(-1)),
            mask,
            block_n,
            None if part.silent is None else _tensor(part.silent[units].reshape(-1)),
            part.merges,
        )


def long_mask(part: LongRows) -> torch.Tensor | None:
    """The mask of long rows, bool `(num_rows, num_keys)`."""
    if part.mask is None:
        return None
    length = part.stop_key - part.first_key
    bits = np.unpackbits(part.mask, axis=-1, count=length, bitorder="little")
    return torch.from_numpy(bits).bool()


def additive(allowed: torch.Tensor) -> torch.Tensor:
    """A boolean mask as the float32 to be added to the scores: 0 or -inf."""
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
