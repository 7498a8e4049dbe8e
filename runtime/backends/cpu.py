"""Fast execution on the CPU: PyTorch's fused attention over the tiles that a layout lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from attnloom.compiler.layout import FULL
from attnloom.runtime.plan import PlanLayout

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_CHUNK_PAIRS = 1 << 23
"""Pairs of (query, key) computed in one go; bounds the memory."""


def refusal(device_type: str) -> str | None:
    """Why this backend cannot run on tensors of a device, or `None`."""
    if device_type != "cpu":
        return f"backend 'cpu' runs on CPU tensors, got tensors on {device_type}"
    return None


@dataclass(frozen=True)
class _Chunk:
    """Rows of tiles that are computed together, each over `width` tiles of keys.

    Shapes:
        rows: `(num_rows,)`, columns: `(num_rows, width)`, mask_ids: `(num_rows, width)`
    """

    rows: torch.Tensor
    columns: torch.Tensor
    mask_ids: torch.Tensor


def _chunks(layout: PlanLayout) -> Iterator[_Chunk]:
    numpy_layout = layout.block_layout
    counts = np.diff(numpy_layout.row_offsets)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    pairs = layout.block_m * layout.block_n
    start = 0
    while start < len(order):
        stop = start + 1
        while (
            stop < len(order)
            and counts[order[stop]] <= 1.25 * counts[order[start]] + 1
            and counts[order[stop]] * pairs * (stop + 1 - start) <= _CHUNK_PAIRS
        ):
            stop += 1
        rows = order[start:stop]
        width = int(counts[rows[-1]])
        place = np.arange(width)
        index = numpy_layout.row_offsets[rows][:, None] + place
        absent = place >= counts[rows][:, None]
        index[absent] = 0
        columns = numpy_layout.column_indices[index].astype(np.int64)
        mask_ids = numpy_layout.mask_ids[index].astype(np.int64)
        mask_ids[mask_ids == FULL] = numpy_layout.num_masks
        mask_ids[absent] = numpy_layout.num_masks + 1
        yield _Chunk(torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(mask_ids))
        start = stop


def _allowed(layout: PlanLayout) -> torch.Tensor:
    """Every mask, the full one, the empty one: bool `(num_masks + 2, block_m, block_n)`."""
    masks = torch.from_numpy(layout.block_layout.unpacked_masks())
    ends = torch.ones(2, layout.block_m, layout.block_n, dtype=torch.bool)
    ends[1] = False
    return torch.cat([masks, ends])


def _tiled(x: torch.Tensor, block: int, dtype: torch.dtype) -> torch.Tensor:
    """`(length, d)` as `(blocks, block, d)`, filled up with zeros."""
    blocks = -(-len(x) // block)
    tiled = torch.zeros(blocks * block, x.shape[1], dtype=dtype)
    tiled[: len(x)] = x
    return tiled.unflatten(0, (blocks, block))


def _weighted_sum(
    weights: torch.Tensor, allowed: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """`weights @ values` in which only allowed pairs count, even where a value is not finite."""
    finite = torch.isfinite(values)
    if bool(finite.all()):
        return weights @ values
    result = weights @ values.masked_fill(~finite, 0.0)
    dtype = result.dtype
    rising, falling = (allowed & (weights > 0)).to(dtype), (allowed & (weights < 0)).to(dtype)
    still = (allowed & (weights == 0)).to(dtype)
    above, below = (values == torch.inf).to(dtype), (values == -torch.inf).to(dtype)
    undefined = allowed.to(dtype) @ values.isnan().to(dtype) + still @ (above + below)
    result[rising @ above + falling @ below > 0] += torch.inf
    result[rising @ below + falling @ above > 0] -= torch.inf
    result[undefined > 0] = torch.nan
    return result


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layouts: Sequence[PlanLayout],
    layout_of_head: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention; see `attnloom.runtime.attention` for the arguments."""
    batch, num_heads = query.shape[:2]
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    output = torch.zeros(query.shape, dtype=query.dtype)
    lse = torch.full(query.shape[:-1], -torch.inf, dtype=exact)
    choice = layout_of_head.expand(batch, -1).tolist()
    group = num_heads // key.shape[1]
    for number, layout in enumerate(layouts):
        allowed = _allowed(layout)
        chunks = list(_chunks(layout))
        for b in range(batch):
            for h in range(num_heads):
                if choice[b][h] != number:
                    continue
                _forward_head(
                    query[b, h], key[b, h // group], value[b, h // group],
                    layout, chunks, allowed, scale, output[b, h], lse[b, h],
                )  # fmt: skip
    return output, lse


def _forward_head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    layout: PlanLayout, chunks: list[_Chunk], allowed: torch.Tensor, scale: float,
    output: torch.Tensor, lse: torch.Tensor,
) -> None:  # fmt: skip
    q = _tiled(query, layout.block_m, lse.dtype)
    k, v = (_tiled(x, layout.block_n, lse.dtype) for x in (key, value))
    out, logs = torch.zeros_like(q), q.new_full(q.shape[:2], -torch.inf)
    for chunk in chunks:
        reads = allowed[chunk.mask_ids].transpose(1, 2).flatten(2)
        kc, vc = (x[chunk.columns].flatten(1, 2) for x in (k, v))
        scores = (q[chunk.rows] @ kc.mT * scale).masked_fill(~reads, -torch.inf)
        logs[chunk.rows] = chunk_lse = torch.logsumexp(scores, -1)
        weights = torch.exp(scores - chunk_lse[..., None]).masked_fill(~reads, 0)
        out[chunk.rows] = _weighted_sum(weights, reads, vc)
    output.copy_(out.flatten(0, 1)[: len(query)])
    lse.copy_(logs.flatten()[: len(query)])


def backward(
    d_output: torch.Tensor, d_lse: torch.Tensor,
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    output: torch.Tensor, lse: torch.Tensor,
    layouts: Sequence[PlanLayout], layout_of_head: torch.Tensor, scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """The gradients of `forward`; see there."""
    batch, num_heads = query.shape[:2]
    exact = lse.dtype
    delta = (d_output.to(exact) * output.to(exact)).sum(-1) - d_lse
    d_query = torch.zeros(query.shape, dtype=exact)
    d_key, d_value = torch.zeros(key.shape, dtype=exact), torch.zeros(value.shape, dtype=exact)
    choice = layout_of_head.expand(batch, -1).tolist()
    group = num_heads // key.shape[1]
    for number, layout in enumerate(layouts):
        allowed = _allowed(layout)
        chunks = list(_chunks(layout))
        for b in range(batch):
            for h in range(num_heads):
                if choice[b][h] != number:
                    continue
                g = h // group
                m, n = layout.block_m, layout.block_n
                q, do = _tiled(query[b, h], m, exact), _tiled(d_output[b, h], m, exact)
                k, v = _tiled(key[b, g], n, exact), _tiled(value[b, g], n, exact)
                dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
                ls, de = (_tiled(x[b, h, :, None], m, exact) for x in (lse, delta))
                for chunk in chunks:
                    reads = allowed[chunk.mask_ids].transpose(1, 2).flatten(2)
                    qc, doc = q[chunk.rows], do[chunk.rows]
                    kc, vc = (x[chunk.columns].flatten(1, 2) for x in (k, v))
                    weights = torch.exp(qc @ kc.mT * scale - ls[chunk.rows])
                    weights = weights.masked_fill(~reads, 0)
                    d_scores = weights * (doc @ vc.mT - de[chunk.rows]) * scale
                    d_scores = d_scores.masked_fill(~reads, 0)
                    dq[chunk.rows] = _weighted_sum(d_scores, reads, kc)
                    flat = chunk.columns.flatten()
                    for total, pairs, rows in ((dk, d_scores, qc), (dv, weights, doc)):
                        part = _weighted_sum(pairs.mT, reads.mT, rows)
                        total.index_add_(0, flat, part.reshape(len(flat), n, -1))
                d_query[b, h] = dq.flatten(0, 1)[: query.shape[2]]
                d_key[b, g] += dk.flatten(0, 1)[: key.shape[2]]
                d_value[b, g] += dv.flatten(0, 1)[: key.shape[2]]
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)
