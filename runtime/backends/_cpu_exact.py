"""Attention where some number is not finite, or where scores are changed: slower, and exact.

Elsewhere masks are added to the scores, and weights of 0 are multiplied with values: where
something that is not read is not finite, or overflows, that makes NaN of what must not change. NaN
never vanishes in a sum, so it is enough to look at the results and to do again the heads that are
not finite. Here such products are taken apart. Here too are the modifiers of scores that the fused
attention does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from attnloom.compiler.parts import Half, row_block
from attnloom.runtime.backends._cpu_backward import Queries
from attnloom.runtime.backends._cpu_heads import is_finite
from attnloom.runtime.modifiers import Modifiers

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
    modifiers: Modifiers,
    *,
    everywhere: bool = False,
) -> None:
    """Compute again, in place, each head whose output, query or key is not finite; or every one."""
    group = query.shape[1] // key.shape[1]
    for b, numbers in enumerate(choice):
        for h, number in enumerate(numbers):
            own = output[b, h], query[b, h], key[b, h // group]
            if not everywhere and all(is_finite(x) for x in own):
                continue
            q, k, v = (
                x.to(lse.dtype) for x in (query[b, h], key[b, h // group], value[b, h // group])
            )
            scores = _Scores.of(modifiers, b, h, len(k))
            output[b, h], lse[b, h] = _forward_head(q, k, v, layouts[number], scores)


def backward_again(
    d_query: torch.Tensor,
    d_key: torch.Tensor,
    d_value: torch.Tensor,
    queries: Queries,
    key: torch.Tensor,
    value: torch.Tensor,
    layouts: Sequence[Sequence[Half]],
    choice: list[list[int]],
    modifiers: Modifiers,
    *,
    everywhere: bool = False,
) -> None:
    """Compute again, in place, the gradients around each key head where one is not finite."""
    kv_heads = key.shape[1]
    exact = queries.lse.dtype
    for b, numbers in enumerate(choice):
        group = len(numbers) // kv_heads
        for g in range(kv_heads):
            heads = range(g * group, (g + 1) * group)
            own = d_query[b, heads.start : heads.stop], d_key[b, g], d_value[b, g]
            if not everywhere and all(is_finite(x) for x in own):
                continue
            k, v = key[b, g].to(exact), value[b, g].to(exact)
            sums = torch.zeros_like(k), torch.zeros_like(v)
            for h in heads:
                of_head = Queries(*(x[b, h].to(exact) for x in queries))
                scores = _Scores.of(modifiers, b, h, len(k))
                dq, dk, dv = _backward_head(of_head, k, v, layouts[numbers[h]], scores)
                d_query[b, h] = dq
                sums[0].add_(dk)
                sums[1].add_(dv)
            d_key[b, g], d_value[b, g] = sums


def _forward_head(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    halves: Sequence[Half],
    modified: _Scores,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and lse of one head, `(length, head_dim)`, in float32 or float64."""
    output = torch.zeros_like(query)
    lse = query.new_full((len(query),), -torch.inf)
    for rows, keys, reads in _row_blocks(halves, len(query), modified.length):
        scores, _ = modified(query[rows] @ key[keys].mT, rows, keys)
        scores = scores.masked_fill(~reads, -torch.inf)
        lse[rows] = torch.logsumexp(scores, -1)
        weights = torch.softmax(scores, -1).masked_fill(~reads, 0.0)
        output[rows] = weighted_sum(weights, reads, value[keys])
    return output, lse


def _backward_head(
    queries: Queries,
    key: torch.Tensor,
    value: torch.Tensor,
    halves: Sequence[Half],
    modified: _Scores,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of one head, `(length, head_dim)`."""
    query, d_output, lse, delta = queries
    d_query, d_key, d_value = (torch.zeros_like(x) for x in (query, key, value))
    for rows, keys, reads in _row_blocks(halves, len(query), modified.length):
        scores, slopes = modified(query[rows] @ key[keys].mT, rows, keys)
        scores = scores.masked_fill(~reads, -torch.inf)
        weights = torch.softmax(scores, -1).masked_fill(~reads, 0.0)
        if modified.has_sink:  # which only the lse knows of
            share = torch.exp(torch.logsumexp(scores, -1) - lse[rows])
            weights = weights * share.masked_fill(~reads.any(-1), 0.0)[:, None]
        d_scores = weights * (d_output[rows] @ value[keys].mT - delta[rows, None])
        d_scores = d_scores * (slopes * modified.scale)
        d_scores = d_scores.masked_fill(~reads, 0.0)
        d_query[rows] = weighted_sum(d_scores, reads, key[keys])
        d_key[keys] += weighted_sum(d_scores.mT, reads.mT, query[rows])
        d_value[keys] += weighted_sum(weights.mT, reads.mT, d_output[rows])
    return d_query, d_key, d_value


class _Scores(NamedTuple):
    """What becomes of the scores of one head; see `attnloom.runtime.modifiers`."""

    scale: float
    softcap: float
    slope: torch.Tensor | None
    has_sink: bool
    length: int
    """Keys from here on are not read."""

    @classmethod
    def of(cls, modifiers: Modifiers, batch: int, head: int, kv_len: int) -> _Scores:
        slopes, lengths = modifiers.alibi_slopes, modifiers.key_lengths
        return cls(
            modifiers.scale,
            modifiers.softcap,
            None if slopes is None else slopes[head],
            modifiers.sinks is not None,
            kv_len if lengths is None else min(kv_len, int(lengths[batch])),
        )

    def __call__(
        self, scores: torch.Tensor, rows: slice, keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scores, and what their gradients are multiplied by."""
        scores = scores * self.scale
        slopes = torch.ones((), dtype=scores.dtype)
        if self.softcap:
            share = torch.tanh(scores / self.softcap)
            scores, slopes = self.softcap * share, 1 - share * share
        if self.slope is not None:
            scores = (
                scores - self.slope * (torch.arange(rows.start, rows.stop)[:, None] - keys).abs()
            )
        return scores, slopes


def _row_blocks(
    halves: Sequence[Half], length: int, kv_len: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Some queries at a time, the keys they read, and who reads what."""
    for first in range(0, length, _ROWS):
        rows = slice(first, min(first + _ROWS, length))
        keys, reads = row_block(halves, rows)
        reads = reads[:, keys < kv_len]
        keys = keys[keys < kv_len]
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
