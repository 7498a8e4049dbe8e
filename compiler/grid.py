"""From what a head computes, in whatever order, back to tiles of the plain grid of positions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.limits import MAX_MASK_BYTES, TooLarge
from attnloom.compiler.parts import HeadLayout, row_block


def grid_of(layout: HeadLayout) -> BlockLayout:
    """The same pairs as a block layout, queries and keys in their own order.

    Raises:
        TooLarge: the masks would take too much memory.

    >>> import attnloom
    >>> (head,), _ = attnloom.parse("pattern p { stride(8) }").head_layouts(64, block=8)
    >>> head.num_tiles, grid_of(head).num_tiles  # in order of residues, and as they stand
    (8, 64)
    """
    plain = _plain(layout)
    if plain is not None:
        return plain
    width = -(-layout.block_n // 8)
    offsets, columns, mask_ids = [0], [], []
    known: dict[bytes, int] = {}
    full = np.full((layout.block_m, width), 255, dtype=np.uint8)
    full[:, -1] >>= -layout.block_n % 8
    known[full.tobytes()] = FULL
    halves = layout.halves
    for rows in layout.row_blocks():
        keys, reads = row_block(halves, rows)
        column, starts = np.unique(keys // layout.block_n, return_index=True)
        for one, (start, stop) in zip(column, pairwise([*starts, len(keys)]), strict=True):
            tile = np.zeros((layout.block_m, layout.block_n), dtype=np.bool_)
            tile[: len(reads), keys[start:stop] % layout.block_n] = reads[:, start:stop]
            bits = np.packbits(tile, axis=-1, bitorder="little").tobytes()
            mask_ids.append(known.setdefault(bits, len(known) - 1))
            columns.append(int(one))
        offsets.append(len(columns))
        if len(known) * layout.block_m * width > MAX_MASK_BYTES:
            raise TooLarge(f"{len(known):,} different masks of {layout.block_m}x{layout.block_n}")
    del known[full.tobytes()]
    masks = np.frombuffer(b"".join(known), dtype=np.uint8)
    return BlockLayout(
        layout.query_len,
        layout.kv_len,
        layout.block_m,
        layout.block_n,
        np.array(offsets, dtype=np.int64),
        np.array(columns, dtype=np.int32),
        np.array(mask_ids, dtype=np.int32),
        masks.reshape(len(known), layout.block_m, width).copy(),
    )


def _plain(layout: HeadLayout) -> BlockLayout | None:
    """The tiles as they are, if they are those of the grid."""
    part, *more = layout.parts
    rows = part.forward
    if more or part.order is not None or len(rows.gathered) or len(rows.listed):
        return None
    sizes = layout.query_len, layout.kv_len, layout.block_m, layout.block_n
    within: NDArray[np.int64] = rows.tile_rows() * (rows.num_columns + 1) + rows.columns
    if (np.diff(within) <= 0).any():
        return None  # not in ascending order
    return BlockLayout(*sizes, rows.row_offsets, rows.columns, rows.mask_ids, rows.masks)
