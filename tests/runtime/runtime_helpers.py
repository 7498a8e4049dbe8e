"""Oracles of the runtime tests: simple, slow, and independent of what they test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.runtime.plan import Plan


def layout_of(dense: np.ndarray, block_m: int = 128, block_n: int = 128) -> BlockLayout:
    """The layout of a boolean matrix, tile by tile."""
    query_len, kv_len = dense.shape
    row_offsets, columns, mask_ids, masks, known = [0], [], [], [], {}
    for top in range(0, query_len, block_m):
        for left in range(0, kv_len, block_n):
            tile = np.zeros((block_m, block_n), dtype=bool)
            part = dense[top : top + block_m, left : left + block_n]
            tile[: part.shape[0], : part.shape[1]] = part
            if not tile.any():
                continue
            columns.append(left // block_n)
            if tile.all():
                mask_ids.append(FULL)
                continue
            packed = np.packbits(tile, axis=-1, bitorder="little")
            if packed.tobytes() not in known:
                known[packed.tobytes()] = len(masks)
                masks.append(packed)
            mask_ids.append(known[packed.tobytes()])
        row_offsets.append(len(columns))
    width = -(-block_n // 8)
    return BlockLayout(
        query_len, kv_len, block_m, block_n,
        np.array(row_offsets, np.int64),
        np.array(columns, np.int32),
        np.array(mask_ids, np.int32),
        np.array(masks, np.uint8).reshape(len(masks), block_m, width),
    )  # fmt: skip


def plan_of(dense: np.ndarray, block_m: int = 128, block_n: int = 128) -> Plan:
    """The plan of boolean matrices `(batch or 1, heads, query_len, kv_len)`; equal ones shared."""
    layouts: list[BlockLayout] = []
    known: dict[bytes, int] = {}
    choice = np.zeros(dense.shape[:2], dtype=np.int64)
    for b, h in np.ndindex(*dense.shape[:2]):
        name = dense[b, h].tobytes()
        if name not in known:
            known[name] = len(layouts)
            layouts.append(layout_of(dense[b, h], block_m, block_n))
        choice[b, h] = known[name]
    return Plan.from_layouts(layouts, choice)


def dense_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masked attention on the whole matrix, differentiable; for finite inputs."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    nothing = ~allowed.any(-1, keepdim=True)
    scores = (query @ key.mT * scale).masked_fill(~allowed & ~nothing, -torch.inf)
    output = (torch.softmax(scores, -1) @ value).masked_fill(nothing, 0)
    return output, torch.logsumexp(scores, -1).masked_fill(nothing[..., 0], -torch.inf)


def inputs(
    shape: Sequence[int], kv_heads: int, kv_len: int, dtype: torch.dtype, seed: int = 0
) -> list[torch.Tensor]:
    """Query, key and value that want gradients; `shape` is the query's."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, _, head_dim = shape
    shapes = [tuple(shape), *[(batch, kv_heads, kv_len, head_dim)] * 2]
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [x.to(dtype).requires_grad_() for x in tensors]
