"""Fast execution on the CPU: the layout is cut into pieces that PyTorch's own kernels run well.

See `attnloom.runtime.pieces` for the pieces. The work follows the tiles, never the square of the
length, and every temporary is bounded. Nothing depends on how the threads are scheduled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attnloom.runtime.backends._cpu_backward import BackwardPass, Queries
from attnloom.runtime.backends._cpu_exact import backward_again, forward_again
from attnloom.runtime.backends._cpu_forward import ForwardPass
from attnloom.runtime.backends._cpu_heads import head_groups, is_finite
from attnloom.runtime.backends._cpu_plan import (
    BACKWARD_ROWS,
    FORWARD_ROWS,
    halves_of,
    operands,
    prepare,
)
from attnloom.runtime.modifiers import Modifiers, with_sinks
from attnloom.runtime.plan import Operands

__all__ = ["DTYPES", "backward", "forward", "operands", "refusal"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_ROWS_AT_ONCE = 1 << 14
"""Queries, over all heads, that are worked on at once: few heads if long, many if short."""

_HEADS_AT_ONCE = 8
"""Heads that the forward pass works on at once, however long they are."""


def refusal(device_type: str) -> str | None:
    """Why this backend cannot run on tensors of a device, or `None`."""
    if device_type == "cpu":
        return None
    return f"backend 'cpu' runs on CPU tensors, got tensors on {device_type}"


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    layout_of_head: torch.Tensor,
    sizes: Sequence[int],
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, in the dtype of `query`, and the lse; see `attnloom.runtime.attention`."""
    if modifiers.is_plain:
        output, lse = _forward_fast(
            query, key, value, tensors, layout_of_head, sizes, modifiers.scale
        )
    else:
        output = query.new_empty(query.shape)
        exact = torch.float64 if query.dtype == torch.float64 else torch.float32
        lse = query.new_empty(query.shape[:-1], dtype=exact)
        choice = layout_of_head.expand(len(query), -1).tolist()
        halves = halves_of(Operands(tuple(tensors), tuple(sizes)))
        forward_again(query, key, value, output, lse, halves, choice, modifiers, everywhere=True)
    return (output, lse) if modifiers.sinks is None else with_sinks(output, lse, modifiers.sinks)


def _forward_fast(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    layout_of_head: torch.Tensor,
    sizes: Sequence[int],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    # Copies, for on rows that lie far apart the fused attention loses more than they cost.
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    batch, _, length, _ = query.shape
    choice = layout_of_head.expand(batch, -1).tolist()
    at_once = max(_HEADS_AT_ONCE, _ROWS_AT_ONCE // length)
    plan = Operands(tuple(tensors), tuple(sizes))
    prepared = prepare(plan, layout_of_head, FORWARD_ROWS)
    groups = head_groups(choice, key.shape[1], len(prepared), at_once)
    run = ForwardPass(query, key, value, scale)
    for parts, own in zip(prepared, groups, strict=True):
        run.run(parts, own)
    # Also where the output is: scores of minus infinity count as masked in the fused attention.
    if not all(is_finite(x) for x in (run.output, query, key)):
        modifiers = Modifiers(scale)
        forward_again(query, key, value, run.output, run.lse, halves_of(plan), choice, modifiers)
    return run.output, run.lse


def backward(
    d_output: torch.Tensor,
    d_lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    layout_of_head: torch.Tensor,
    sizes: Sequence[int],
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of `query`, `key` and `value`, contiguous."""
    batch, _, length, _ = query.shape
    choice = layout_of_head.expand(batch, -1).tolist()
    plan = Operands(tuple(tensors), tuple(sizes))
    d_output = d_output.contiguous()
    delta = (d_output.to(lse.dtype) * output.to(lse.dtype)).sum(-1) - d_lse
    queries = Queries(query, d_output, lse, delta)
    if not modifiers.is_plain:
        d_query, d_key, d_value = (x.new_empty(x.shape) for x in (query, key, value))
        backward_again(
            d_query, d_key, d_value, queries, key, value, halves_of(plan), choice, modifiers,
            everywhere=True,
        )  # fmt: skip
        return d_query, d_key, d_value
    # Batched products want one step from piece to piece: of one head the windows are a view, and
    # of several a copy, which is worth it for short ones only.
    prepared = prepare(plan, layout_of_head, BACKWARD_ROWS)
    groups = head_groups(choice, key.shape[1], len(prepared), max(1, _ROWS_AT_ONCE // length))
    run = BackwardPass.of(queries, key, value, modifiers.scale, sizes[3])
    for parts, own in zip(prepared, groups, strict=True):
        run.run(parts, own)
    gradients = run.gradients(query.dtype, key.shape[2])
    if not all(is_finite(gradient) for gradient in gradients):
        backward_again(*gradients, queries, key, value, halves_of(plan), choice, modifiers)
    return gradients
