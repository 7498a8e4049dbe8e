"""Block layouts: which tiles of the score matrix are computed, and the masks of partial ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.alike import sortable
from attnloom.compiler.bits import num_set, turned

FULL = -1
"""The `mask_ids` entry of a tile in which every pair is allowed."""


@dataclass(frozen=True, eq=False)
class BlockLayout:
    """A block-sparse boolean matrix, compressed by rows of tiles.

    The `query_len x kv_len` matrix is cut into tiles of `block_m x block_n`. Row of tiles `r` owns
    the tiles `row_offsets[r]:row_offsets[r + 1]`; tile `t` stands in column `column_indices[t]`
    (ascending within a row) and is *full* when `mask_ids[t] == FULL`, otherwise *partial* with the
    mask `masks[mask_ids[t]]`. Tiles not listed are empty. Equal masks are stored once.

    A mask is `block_m` rows of `block_n` bits, packed with `np.packbits(bitorder="little")`.
    Bits beyond `query_len` or `kv_len` are 0, so a tile over the border is never full.

    Invariant: `to_dense()` equals the relation, bit for bit; no stored mask is all zeros, and none
    is all ones unless it lies over the border.

    Shapes:
        row_offsets: int64 `(num_query_blocks + 1,)`
        column_indices: int32 `(num_tiles,)`
        mask_ids: int32 `(num_tiles,)`
        masks: uint8 `(num_masks, block_m, ceil(block_n / 8))`
    """

    query_len: int
    kv_len: int
    block_m: int
    block_n: int
    row_offsets: NDArray[np.int64]
    column_indices: NDArray[np.int32]
    mask_ids: NDArray[np.int32]
    masks: NDArray[np.uint8]

    @property
    def num_query_blocks(self) -> int:
        return -(-self.query_len // self.block_m)

    @property
    def num_kv_blocks(self) -> int:
        return -(-self.kv_len // self.block_n)

    @property
    def num_tiles(self) -> int:
        """Tiles that are not empty."""
        return len(self.column_indices)

    @property
    def num_full(self) -> int:
        return int(np.count_nonzero(self.mask_ids == FULL))

    @property
    def num_partial(self) -> int:
        return self.num_tiles - self.num_full

    @property
    def num_empty(self) -> int:
        return self.num_query_blocks * self.num_kv_blocks - self.num_tiles

    @property
    def num_masks(self) -> int:
        return len(self.masks)

    @property
    def num_bytes(self) -> int:
        arrays = (self.row_offsets, self.column_indices, self.mask_ids, self.masks)
        return sum(array.nbytes for array in arrays)

    def fingerprint(self) -> bytes:
        """A digest of the layout: equal layouts, and in practice only those, have equal ones."""
        digest = hashlib.sha256(
            repr((self.query_len, self.kv_len, self.block_m, self.block_n)).encode()
        )
        for array in (self.row_offsets, self.column_indices, self.mask_ids, self.masks):
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    def unpacked_masks(self) -> NDArray[np.bool_]:
        """The masks as booleans, `(num_masks, block_m, block_n)`."""
        bits = np.unpackbits(self.masks, axis=-1, count=self.block_n, bitorder="little")
        return bits.astype(np.bool_)

    def tile_rows(self) -> NDArray[np.int32]:
        """The row of tiles in which each tile stands, `(num_tiles,)`."""
        rows = np.arange(self.num_query_blocks, dtype=np.int32)
        return np.repeat(rows, np.diff(self.row_offsets))

    def reads(self) -> int:
        """The number of allowed pairs."""
        per_mask = num_set(self.masks)
        partial = self.mask_ids[self.mask_ids != FULL]
        return self.num_full * self.block_m * self.block_n + int(per_mask[partial].sum())

    def to_dense(self) -> NDArray[np.bool_]:
        """The matrix itself, `(query_len, kv_len)`; meant for small lengths."""
        shape = (self.num_query_blocks, self.block_m, self.num_kv_blocks, self.block_n)
        dense = np.zeros(shape, dtype=np.bool_)
        full = np.ones((1, self.block_m, self.block_n), dtype=np.bool_)
        tiles = np.concatenate([self.unpacked_masks(), full])  # FULL == -1 picks the last
        dense[self.tile_rows(), :, self.column_indices, :] = tiles[self.mask_ids]
        merged = dense.reshape(shape[0] * shape[1], shape[2] * shape[3])
        return merged[: self.query_len, : self.kv_len]

    def transpose(self) -> BlockLayout:
        """The layout of the transposed matrix: rows become columns. Twice gives the same layout."""
        order = np.argsort(sortable(self.column_indices, self.num_kv_blocks), kind="stable")
        counts = np.bincount(self.column_indices, minlength=self.num_kv_blocks)
        return BlockLayout(
            query_len=self.kv_len,
            kv_len=self.query_len,
            block_m=self.block_n,
            block_n=self.block_m,
            row_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            column_indices=self.tile_rows()[order],
            mask_ids=self.mask_ids[order],
            masks=turned(self.masks, self.block_n),
        )
