"""Plans for PyTorch's FlexAttention: a `BlockMask`, and the `mask_mod` behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.compiler.grid import grid_of
from attnloom.compiler.layout import FULL, BlockLayout

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from attnloom.runtime.plan import Plan

MaskMod = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Flex(NamedTuple):
    """What `flex_attention` and `create_block_mask` take."""

    block_mask: BlockMask
    mask_mod: MaskMod


def to_flex(plan: Plan) -> Flex:
    """See `Plan.to_flex`."""
    from torch.nn.attention.flex_attention import BlockMask

    grids = [grid_of(layout) for layout in plan.layouts]
    device, chosen = plan.device, plan.layout_of_head
    mask_mod = _mask_mod(grids, plan)

    def blocks(is_full: bool) -> tuple[torch.Tensor, torch.Tensor]:
        found = [_rows_of_blocks(grid, (grid.mask_ids == FULL) == is_full) for grid in grids]
        counts, columns = (
            torch.from_numpy(np.stack(arrays)).to(device)[chosen]
            for arrays in zip(*found, strict=True)
        )
        return counts, columns

    partial, full = blocks(False), blocks(True)
    block_mask = BlockMask.from_kv_blocks(
        partial[0],
        partial[1],
        full[0],
        full[1],
        BLOCK_SIZE=(plan.block_m, plan.block_n),
        mask_mod=mask_mod,
        seq_lengths=(plan.query_len, plan.kv_len),
    )
    return Flex(block_mask, mask_mod)


def _rows_of_blocks(
    grid: BlockLayout, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How many wanted blocks each row has, and their columns, first of a row as wide as the grid.

    The columns that are not wanted follow in ascending order, as FlexAttention has them.
    """
    rows, columns = grid.tile_rows()[wanted], grid.column_indices[wanted]
    counts = np.bincount(rows, minlength=grid.num_query_blocks).astype(np.int32)
    is_there = np.zeros((grid.num_query_blocks, grid.num_kv_blocks), dtype=np.bool_)
    is_there[rows, columns] = True
    return counts, np.argsort(~is_there, axis=1, kind="stable").astype(np.int32)


def _mask_mod(grids: list[BlockLayout], plan: Plan) -> MaskMod:
    """Looks each pair up in the tile that it falls into."""
    block_m, block_n = plan.block_m, plan.block_n
    width = grids[0].masks.shape[-1]
    # Two more masks: every pair, and none.
    every = np.full((1, block_m, width), 255, dtype=np.uint8)
    masks = np.concatenate([*(grid.masks for grid in grids), every, np.zeros_like(every)])
    cells = np.full((len(grids), grids[0].num_query_blocks, grids[0].num_kv_blocks), len(masks) - 1)
    before = 0
    for grid, table in zip(grids, cells, strict=True):
        ids = np.where(grid.mask_ids == FULL, len(masks) - 2, grid.mask_ids + before)
        table[grid.tile_rows(), grid.column_indices] = ids
        before += len(grid.masks)
    of_cell = torch.from_numpy(cells.astype(np.int32)).to(plan.device)
    bits = torch.from_numpy(masks.astype(np.int32)).to(plan.device)
    chosen = plan.layout_of_head
    is_shared = plan.batch_size is None

    def mask_mod(
        batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        """Whether a query reads a key, in a batch element and head."""
        layout = chosen[0, head] if is_shared else chosen[batch, head]
        cell = of_cell[layout, query // block_m, key // block_n]
        within = key % block_n
        byte = bits[cell, query % block_m, within // 8]
        return (byte >> (within % 8)) & 1 == 1

    return mask_mod
