"""The definition of attention over a relation, in float64: what `run --check` compares with.

It takes its masks from the relation itself, never from the plan, so it also catches a wrong plan.
Memory is bounded: only the rows that are asked for are computed, a chunk at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RowMasks = Callable[[int, list[int]], Tensor]
"""Which keys some queries of a head read: `(head, rows) -> bool (rows, length)`."""

MOST_SCORES = 1 << 22
"""Scores held at once; a float64 matrix of them is 32 MiB."""


@dataclass(frozen=True)
class Expected:
    """What the attention of some rows should give, and the gradients of a loss on those rows.

    Shapes: `output` `(batch, heads, rows, head_dim)`; the gradients like query, key and value.
    Gradients of queries that were not asked for are zero.
    """

    output: Tensor
    query_grad: Tensor
    key_grad: Tensor
    value_grad: Tensor


def expected(
    query: Tensor, key: Tensor, value: Tensor, output_grad: Tensor, rows: Tensor, masks: RowMasks
) -> Expected:
    """Attention of `rows`, and the gradients when `output_grad` reaches those rows of the output.

    Args:
        query: `(batch, heads, length, head_dim)`; key and value with as many heads or fewer.
        key: like `query`.
        value: like `query`.
        output_grad: `(batch, heads, rows, head_dim)`.
        rows: indices of the queries to compute, on the device of the tensors.
        masks: which keys they read.
    """
    query, key, value, grad = (x.detach().double() for x in (query, key, value, output_grad))
    batch, heads, length, head_dim = query.shape
    group = heads // key.shape[1]
    scale = head_dim**-0.5
    output = torch.zeros_like(grad)
    query_grad, key_grad, value_grad = (torch.zeros_like(x) for x in (query, key, value))

    for head in range(heads):
        for chunk in _chunks(len(rows), length):
            at = rows[chunk]
            forbidden = ~masks(head, at.tolist()).to(query.device)
            for item in range(batch):
                k, v = key[item, head // group], value[item, head // group]
                q, do = query[item, head, at], grad[item, head, chunk]
                scores = (q @ k.T * scale).masked_fill_(forbidden, -torch.inf)
                weights = torch.softmax(scores, -1).nan_to_num_(0.0)  # an empty row gives 0
                o = weights @ v
                output[item, head, chunk] = o
                value_grad[item, head // group] += weights.T @ do
                slopes = weights * (do @ v.T - (do * o).sum(-1, keepdim=True)) * scale
                query_grad[item, head, at] = slopes @ k
                key_grad[item, head // group] += slopes.T @ q
    return Expected(output, query_grad, key_grad, value_grad)


def sample_rows(length: int, wanted: int, seed: int) -> Tensor:
    """Rows to check: all, or the first and last few (globals stand there) and random others."""
    if length <= wanted:
        return torch.arange(length)
    generator = torch.Generator().manual_seed(seed)
    ends = wanted // 8
    middle = ends + torch.randperm(length - 2 * ends, generator=generator)[: wanted - 2 * ends]
    rows = torch.cat([torch.arange(ends), middle, torch.arange(length - ends, length)])
    return rows.sort().values


def _chunks(count: int, length: int) -> Iterator[slice]:
    step = max(1, MOST_SCORES // length)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
