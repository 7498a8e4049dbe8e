"""The definition: each query attends to exactly the keys it reads, in plain differentiable PyTorch.

`output_i = sum_j softmax_j(scale * <query_i, key_j>) * value_j` over the keys `j` that query `i`
reads, and `lse_i = log sum_j exp(scale * <query_i, key_j>)`. Keys that are not read are never
touched. Runs on any device, in float64 for float64 inputs and in float32 otherwise, and can be
differentiated any number of times. Cost and time follow the reads, but slowly.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from attnloom.runtime.plan import Plan, PlanLayout

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_CHUNK_ELEMENTS = 1 << 24
"""Elements of the gathered keys of one chunk of queries; bounds the memory."""


def refusal(device_type: str) -> str | None:
    """Why this backend cannot run on a device: there is no such device."""
    return None


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Plan, scale: float
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
    choice = plan.layout_of_head.expand(batch, -1).tolist()
    outputs, lses = [], []
    for b in range(batch):
        for h in range(num_heads):
            layout = plan.layouts[choice[b][h]]
            of_head = query[b, h], key[b, h // group], value[b, h // group]
            output, lse = _attend_head(*of_head, layout, scale)
            outputs.append(output)
            lses.append(lse)
    output = torch.stack(outputs).reshape(query.shape)
    return output.to(dtype), torch.stack(lses).reshape(query.shape[:-1])


def _attend_head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: PlanLayout, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of one head, `(length, head_dim)`, by chunks of tile rows."""
    # A row of zeros behind the last key: what the unused places of a short row point to.
    key, value = (torch.cat([x, x.new_zeros(1, x.shape[1])]) for x in (key, value))
    outputs, lses = [], []
    for first in range(0, layout.query_len, layout.block_m):
        allowed = layout.rows(first, min(first + layout.block_m, layout.query_len))
        per_row = int(allowed.sum(1).max()) * query.shape[1]
        step = max(1, _CHUNK_ELEMENTS // max(1, per_row))
        for start in range(0, len(allowed), step):
            reads = allowed[start : start + step]
            rows = query[first + start : first + start + len(reads)]
            # Recomputed in the backward pass, so that no chunk's gathered keys are kept.
            output, lse = checkpoint(
                _attend_rows,
                rows,
                key,
                value,
                _key_lists(reads),
                scale,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            outputs.append(output)
            lses.append(lse)
    return torch.cat(outputs), torch.cat(lses)


def _key_lists(reads: torch.Tensor) -> torch.Tensor:
    """The keys that each row reads, in ascending order, padded with `kv_len`: `(rows, most)`."""
    counts = reads.sum(1)
    rows, keys = reads.nonzero(as_tuple=True)
    place = torch.arange(len(keys), device=keys.device) - (counts.cumsum(0) - counts)[rows]
    lists = keys.new_full((len(reads), max(1, int(counts.max()))), reads.shape[1])
    lists[rows, place] = keys
    return lists


def _attend_rows(
    rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lists: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of a few queries `(rows, head_dim)` over their lists of keys."""
    unused = lists == len(key) - 1
    reads_nothing = unused.all(1)
    scores = torch.einsum("rd,rkd->rk", rows, key[lists]) * scale
    # A row without keys gets a softmax over zeros, whose result and gradients are then dropped.
    scores = scores.masked_fill(unused & ~reads_nothing[:, None], float("-inf"))
    output = torch.einsum("rk,rkd->rd", torch.softmax(scores, 1), value[lists])
    output = output.masked_fill(reads_nothing[:, None], 0.0)
    return output, torch.logsumexp(scores, 1).masked_fill(reads_nothing, float("-inf"))
