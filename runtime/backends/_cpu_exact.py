"""Attention where some number is not finite: slower, and nothing that is not read has an effect.

Elsewhere masks are added to the scores, and weights of 0 are multiplied with values: where
something that is not read is not finite, or overflows, that makes NaN of what must not change. NaN
never vanishes in a sum, so it is enough to look at the results and to do again the heads that are
not finite. Here such products are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from attnloom.compiler.parts import Half, row_block
from attnloom.runtime.backends._cpu_backward import Queries
from attnloom.runtime.backends._cpu_heads import is_finite

_ROWS = 128
"""Queries at a time."""


def forward_again(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    layouts: Sequence[Sequence[Half]],
    choice: list[list[int]],
    scale: float,
) -> None:
    """Compute again, in place, each head whose output, query or key is not finite."""
    group = query.shape[1] // key.shape[1]
    for b, numbers in enumerate(choice):
        for h, number in enumerate(numbers):
            if all(is_finite(x) for x in (output[b, h], query[b, h], key[b, h // group])):
                continue
            q, k, v = (
                x.to(lse.dtype) for x in (query[b, h], key[b, h // group], value[b, h // group])
            )
            output[b, h], lse[b, h] = _forward_head(q, k, v, layouts[number], scale)


def backward_again(
    d_query: torch.Tensor,
    d_key: torch.Tensor,
    d_value: torch.Tensor,
    queries: Queries,
    key: torch.Tensor,
    value: torch.Tensor,
    layouts: Sequence[Sequence[Half]],
    choice: list[list[int]],
    scale: float,
) -> None:
    """Compute again, in place, the gradients around each key head where one is not finite."""
    kv_heads = key.shape[1]
    exact = queries.lse.dtype
    for b, numbers in enumerate(choice):
        group = len(numbers) // kv_heads
        for g in range(kv_heads):
            heads = range(g * group, (g + 1) * group)
            own = d_query[b, heads.start : heads.stop], d_key[b, g], d_value[b, g]
            if all(is_finite(x) for x in own):
                continue
            k, v = key[b, g].to(exact), value[b, g].to(exact)
            sums = torch.zeros_like(k), torch.zeros_like(v)
            for h in heads:
                of_head = Queries(*(x[b, h].to(exact) for x in queries))
                dq, dk, dv = _backward_head(of_head, k, v, layouts[numbers[h]], scale)
                d_query[b, h] = dq
                sums[0].add_(dk)
                sums[1].add_(dv)
            d_key[b, g], d_value[b, g] = sums


def _forward_head(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    halves: Sequence[Half],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and lse of one head, `(length, head_dim)`, in float32 or float64."""
    output = torch.zeros_like(query)
    lse = query.new_full((len(query),), -torch.inf)
    for rows, keys, reads in _row_blocks(halves, len(query)):
        scores = (query[rows] @ key[keys].mT * scale).masked_fill(~reads, -torch.inf)
        lse[rows] = torch.logsumexp(scores, -1)
        weights = torch.softmax(scores, -1).masked_fill(~reads, 0.0)
        output[rows] = weighted_sum(weights, reads, value[keys])
    return output, lse


def _backward_head(
    queries: Queries, key: torch.Tensor, value: torch.Tensor, halves: Sequence[Half], scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of one head, `(length, head_dim)`."""
    query, d_output, _, delta = queries
    d_query, d_key, d_value = (torch.zeros_like(x) for x in (query, key, value))
    for rows, keys, reads in _row_blocks(halves, len(query)):
        scores = (query[rows] @ key[keys].mT * scale).masked_fill(~reads, -torch.inf)
        weights = torch.softmax(scores, -1).masked_fill(~reads, 0.0)
        d_scores = weights * (d_output[rows] @ value[keys].mT - delta[rows, None]) * scale
        d_scores = d_scores.masked_fill(~reads, 0.0)
        d_query[rows] = weighted_sum(d_scores, reads, key[keys])
        d_key[keys] += weighted_sum(d_scores.mT, reads.mT, query[rows])
        d_value[keys] += weighted_sum(weights.mT, reads.mT, d_output[rows])
    return d_query, d_key, d_value


def _row_blocks(
    halves: Sequence[Half], length: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Some queries at a time, the keys they read, and who reads what."""
    for first in range(0, length, _ROWS):
        rows = slice(first, min(first + _ROWS, length))
        keys, reads = row_block(halves, rows)
        yield rows, torch.from_numpy(keys), torch.from_numpy(reads)


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
