"""Attention where some number is not finite: slower, and nothing that is not read has an effect.

A dense product multiplies what is not read by zero, and zero times NaN is NaN. Here such products
are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from attnloom.compiler.layout import FULL
from attnloom.runtime.plan import PlanLayout


def forward_head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: PlanLayout, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and lse of one head, `(length, head_dim)`, in float32 or float64."""
    output = torch.zeros_like(query)
    lse = query.new_full((len(query),), -torch.inf)
    for rows, keys, reads in _rows_of_tiles(layout):
        scores = (query[rows] @ key[keys].mT * scale).masked_fill(~reads, -torch.inf)
        lse[rows] = row_lse = torch.logsumexp(scores, -1)
        weights = torch.exp(scores - row_lse[:, None]).masked_fill(~reads, 0.0)
        output[rows] = weighted_sum(weights, reads, value[keys])
    return output, lse


def backward_head(
    d_output: torch.Tensor,
    delta: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lse: torch.Tensor,
    layout: PlanLayout,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of one head; `delta` is `sum(d_output * output) - d_lse`, `(length,)`."""
    d_query, d_key, d_value = (torch.zeros_like(x) for x in (query, key, value))
    for rows, keys, reads in _rows_of_tiles(layout):
        weights = torch.exp(query[rows] @ key[keys].mT * scale - lse[rows, None])
        weights = weights.masked_fill(~reads, 0.0)
        d_scores = weights * (d_output[rows] @ value[keys].mT - delta[rows, None]) * scale
        d_scores = d_scores.masked_fill(~reads, 0.0)
        d_query[rows] = weighted_sum(d_scores, reads, key[keys])
        d_key[keys] += weighted_sum(d_scores.mT, reads.mT, query[rows])
        d_value[keys] += weighted_sum(weights.mT, reads.mT, d_output[rows])
    return d_query, d_key, d_value


def weighted_sum(
    weights: torch.Tensor, allowed: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """`weights @ values` in which only allowed pairs count; the other weights must be 0.

    >>> weights = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    >>> values = torch.tensor([[2.0], [float("nan")]])
    >>> weighted_sum(weights, weights > 0, values).tolist()
    [[2.0], [nan]]
    """
    finite = torch.isfinite(values)
    if bool(finite.all()):
        return weights @ values
    result = weights @ values.masked_fill(~finite, 0.0)
    dtype = result.dtype
    above, below = (values == torch.inf).to(dtype), (values == -torch.inf).to(dtype)
    rising, falling = (allowed & (weights > 0)).to(dtype), (allowed & (weights < 0)).to(dtype)
    # 0 * inf is NaN by the rules of arithmetic, if the pair is read.
    still = (allowed & (weights == 0)).to(dtype)
    undefined = allowed.to(dtype) @ values.isnan().to(dtype) + still @ (above + below)
    result[rising @ above + falling @ below > 0] += torch.inf
    result[rising @ below + falling @ above > 0] -= torch.inf
    result[undefined > 0] = torch.nan
    return result


def _rows_of_tiles(layout: PlanLayout) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """For each row of tiles: its queries, its keys, and who reads what, `(queries, keys)`."""
    tiles = layout.block_layout
    for number in range(tiles.num_query_blocks):
        own = slice(int(tiles.row_offsets[number]), int(tiles.row_offsets[number + 1]))
        ids = tiles.mask_ids[own]
        if not len(ids):
            continue
        first = number * tiles.block_m
        rows = slice(first, min(first + tiles.block_m, tiles.query_len))
        columns = tiles.column_indices[own].astype(np.int64)
        keys = (columns[:, None] * tiles.block_n + np.arange(tiles.block_n)).reshape(-1)
        bits = np.ones((len(ids), tiles.block_m, tiles.block_n), dtype=np.bool_)
        partial = ids != FULL
        bits[partial] = np.unpackbits(
            tiles.masks[ids[partial]], axis=-1, count=tiles.block_n, bitorder="little"
        )
        reads = bits.transpose(1, 0, 2).reshape(tiles.block_m, -1)
        reads = np.ascontiguousarray(reads[: rows.stop - first, keys < tiles.kv_len])
        yield rows, torch.from_numpy(keys[keys < tiles.kv_len]), torch.from_numpy(reads)
