"""The definition: each query attends to exactly the keys it reads, in plain differentiable PyTorch.

`output_i = sum_j softmax_j(scale * <query_i, key_j>) * value_j` over the keys `j` that query `i`
reads, and `lse_i = log sum_j exp(scale * <query_i, key_j>)`; what else may change a score is in
`attnloom.runtime.modifiers`. Keys that are not read are never touched. Runs on any device, in
float64 for float64 inputs and in float32 otherwise, and can be differentiated any number of times.
Cost and memory follow the reads, but slowly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint

from attnloom.compiler.parts import HeadLayout, row_block
from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.plan import Plan

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_CHUNK_ELEMENTS = 1 << 24
"""Elements of the gathered keys of one chunk of queries; bounds the memory."""


def refusal(device_type: str) -> str | None:
    """Why this backend cannot run on a device: there is no such device."""
    return None


class _OfHead(NamedTuple):
    """The modifiers as one head of one batch element has them."""

    scale: float
    softcap: float
    slope: torch.Tensor | None
    sink: torch.Tensor | None
    length: int
    """Keys from here on are not read."""

    @classmethod
    def of(cls, modifiers: Modifiers, batch: int, head: int, kv_len: int) -> _OfHead:
        scale, softcap, slopes, sinks, lengths = modifiers
        return cls(
            scale,
            softcap,
            None if slopes is None else slopes[head],
            None if sinks is None else sinks[head],
            kv_len if lengths is None else min(kv_len, int(lengths[batch])),
        )


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by its definition.

    Returns:
        The output in the dtype of `query`, and the lse in float32 (float64 for float64).
    """
    dtype = query.dtype
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    query, key, value = query.to(exact), key.to(exact), value.to(exact)
    batch, num_heads = query.shape[:2]
    group = num_heads // key.shape[1]
    outputs, lses = [query.flatten(0, 1)[:0]], [query.flatten(0, 1)[:0, :, 0]]
    for b, numbers in enumerate(plan.layout_of_head.expand(batch, -1).tolist()):
        for h, number in enumerate(numbers):
            of_head = query[b, h], key[b, h // group], value[b, h // group]
            own = _OfHead.of(modifiers, b, h, plan.kv_len)
            output, lse = _attend_head(*of_head, plan.layouts[number], own)
            outputs.append(output[None])
            lses.append(lse[None])
    output = torch.cat(outputs).reshape(query.shape)
    return output.to(dtype), torch.cat(lses).reshape(query.shape[:-1])


def _attend_head(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: HeadLayout,
    modifiers: _OfHead,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of one head, `(length, head_dim)`, by chunks of queries."""
    # A row of zeros behind the last key: what the unused places of a short list point to.
    key, value = (torch.cat([x, x.new_zeros(1, x.shape[1])]) for x in (key, value))
    outputs, lses = [], []
    halves = layout.halves
    for rows in layout.row_blocks():
        keys, reads = (torch.from_numpy(x).to(key.device) for x in row_block(halves, rows))
        most = max(1, int(reads.sum(1).max())) * query.shape[1]
        step = max(1, _CHUNK_ELEMENTS // most)
        reads = reads & (keys < modifiers.length)
        positions = torch.arange(rows.start, rows.stop, device=key.device)
        split = (torch.split(x, step) for x in (query[rows], reads, positions))
        for chunk, some, own in zip(*split, strict=True):
            lists = _key_lists(keys, some, unused=layout.kv_len)
            # Recomputed in the backward pass, so that no chunk's gathered keys are kept.
            output, lse = checkpoint(
                _attend_rows,
                chunk,
                key,
                value,
                lists,
                own,
                modifiers,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            outputs.append(output)
            lses.append(lse)
    return torch.cat(outputs), torch.cat(lses)


def _key_lists(keys: torch.Tensor, reads: torch.Tensor, unused: int) -> torch.Tensor:
    """The keys that each row reads, in ascending order, filled up with `unused`: `(rows, most)`.

    >>> reads = torch.tensor([[True, False, True], [False, False, True]])
    >>> _key_lists(torch.tensor([4, 5, 6]), reads, unused=9).tolist()
    [[4, 6], [6, 9]]
    """
    counts = reads.sum(1)
    row, column = reads.nonzero(as_tuple=True)
    place = torch.arange(len(column), device=keys.device) - (counts.cumsum(0) - counts)[row]
    lists = keys.new_full((len(reads), max(1, int(counts.max()))), unused)
    lists[row, place] = keys[column]
    return lists


def _attend_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lists: torch.Tensor,
    positions: torch.Tensor,
    modifiers: _OfHead,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of a few queries `(rows, head_dim)` over their lists of keys."""
    last = len(key) - 1
    unused = lists == last
    scale, softcap, slope, sink, _ = modifiers
    reads_nothing = unused.all(1)
    if sink is not None:
        reads_nothing = reads_nothing & (sink == -torch.inf)
    # Not `key[lists]`, whose gradient is summed in an order that depends on the threads.
    keys, values = (embedding(lists, x, padding_idx=last) for x in (key, value))
    scores = torch.einsum("rd,rkd->rk", query, keys) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if slope is not None:
        scores = scores - slope * (positions[:, None] - lists).abs()
    # A row without keys gets a softmax over zeros, whose result and gradients are then dropped.
    scores = scores.masked_fill(unused, -torch.inf).masked_fill(reads_nothing[:, None], 0.0)
    if sink is not None:
        scores = torch.cat([scores, sink.to(scores.dtype).expand(len(scores), 1)], 1)
        values = torch.cat([values, values.new_zeros(len(values), 1, values.shape[2])], 1)
    output = torch.einsum("rk,rkd->rd", torch.softmax(scores, 1), values)
    output = output.masked_fill(reads_nothing[:, None], 0.0)
    return output, torch.logsumexp(scores, 1).masked_fill(reads_nothing, -torch.inf)
