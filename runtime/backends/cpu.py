"""Fast execution on the CPU: the layout is cut into pieces that PyTorch's own kernels run well.

See `attnloom.runtime.pieces` for the pieces. The work follows the tiles, never the square of the
length, and every temporary is bounded. Nothing depends on how the threads are scheduled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attnloom.runtime.backends._cpu_backward import BackwardPass
from attnloom.runtime.backends._cpu_exact import backward_head, forward_head
from attnloom.runtime.backends._cpu_forward import ForwardPass
from attnloom.runtime.backends._cpu_pieces import even, head_groups, prepare
from attnloom.runtime.plan import PlanLayout

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_ROWS_AT_ONCE = 1 << 14
"""Queries, over all heads, that are worked on at once: few heads if long, many if short."""

_HEADS_AT_ONCE = 8
"""Heads that share the gathering of a chunk."""


def refusal(device_type: str) -> str | None:
    """Why this backend cannot run on tensors of a device, or `None`."""
    if device_type == "cpu":
        return None
    return f"backend 'cpu' runs on CPU tensors, got tensors on {device_type}"


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layouts: Sequence[PlanLayout],
    layout_of_head: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, in the dtype of `query`, and the lse; see `attnloom.runtime.attention`."""
    query, key, value = even(query), even(key), even(value)
    batch, _, length, _ = query.shape
    run = ForwardPass(query, key, value, scale)
    groups, wide = (
        head_groups(layout_of_head, batch, key.shape[1], len(layouts), at_once, query, key, value)
        for at_once in (max(1, _ROWS_AT_ONCE // max(1, length)), _HEADS_AT_ONCE)
    )
    for number, prepared in enumerate(prepare(layouts, layout_of_head, "forward")):
        run.run(prepared, groups[number], wide[number])
    if not _is_finite(run.output):
        _forward_again(run, layouts, layout_of_head)
    return run.output, run.lse


def backward(
    d_output: torch.Tensor,
    d_lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    layouts: Sequence[PlanLayout],
    layout_of_head: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of `query`, `key` and `value`."""
    batch, _, length, _ = query.shape
    exact = lse.dtype
    delta = (d_output.to(exact) * output.to(exact)).sum(-1) - d_lse
    key, value, d_output = even(key), even(value), even(d_output)
    run = BackwardPass(
        d_output,
        delta,
        query,
        key,
        value,
        lse,
        scale,
        layouts[0].num_kv_blocks * layouts[0].block_n,
    )
    at_once = max(1, _ROWS_AT_ONCE // max(1, length))
    groups = head_groups(
        layout_of_head, batch, key.shape[1], len(layouts), at_once,
        run.query, run.key, run.value, run.d_output,
    )  # fmt: skip
    for prepared, own in zip(prepare(layouts, layout_of_head, "backward"), groups, strict=True):
        run.run(prepared, own)
    gradients = run.gradients(query.dtype, key.shape[2])
    if not all(_is_finite(gradient) for gradient in gradients):
        _backward_again(
            gradients, d_output, delta, query, key, value, lse, layouts, layout_of_head, scale
        )
    return gradients


def _is_finite(x: torch.Tensor) -> bool:
    """Whether no number is infinite or NaN. Huge numbers may be taken for infinite ones."""
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    return bool(torch.isfinite(x.sum(dtype=exact)))


# Masks are added to the scores, and weights of 0 are multiplied with values: where something that
# is not read is not finite, or overflows, that makes NaN of what must not change. NaN never
# vanishes in a sum, so it is enough to look at the results and to do again what is not finite.
def _forward_again(
    run: ForwardPass, layouts: Sequence[PlanLayout], layout_of_head: torch.Tensor
) -> None:
    batch, num_heads = run.query.shape[:2]
    group = num_heads // run.key.shape[1]
    choice = layout_of_head.expand(batch, -1).tolist()
    exact = run.lse.dtype
    for b in range(batch):
        for h in range(num_heads):
            if _is_finite(run.output[b, h]):
                continue
            q, k, v = run.query[b, h], run.key[b, h // group], run.value[b, h // group]
            output, lse = forward_head(
                q.to(exact), k.to(exact), v.to(exact), layouts[choice[b][h]], run.scale
            )
            run.output[b, h] = output.to(q.dtype)
            run.lse[b, h] = lse


def _backward_again(
    gradients: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    d_output: torch.Tensor,
    delta: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lse: torch.Tensor,
    layouts: Sequence[PlanLayout],
    layout_of_head: torch.Tensor,
    scale: float,
) -> None:
    d_query, d_key, d_value = gradients
    batch, num_heads = query.shape[:2]
    group = num_heads // key.shape[1]
    choice = layout_of_head.expand(batch, -1).tolist()
    exact = lse.dtype
    for b in range(batch):
        for g in range(key.shape[1]):
            heads = range(g * group, (g + 1) * group)
            own = (d_query[b, heads.start : heads.stop], d_key[b, g], d_value[b, g])
            if all(_is_finite(x) for x in own):
                continue
            k, v = key[b, g].to(exact), value[b, g].to(exact)
            k_sum, v_sum = torch.zeros_like(k), torch.zeros_like(v)
            for h in heads:
                q, do = query[b, h].to(exact), d_output[b, h].to(exact)
                layout = layouts[choice[b][h]]
                dq, dk, dv = backward_head(do, delta[b, h], q, k, v, lse[b, h], layout, scale)
                d_query[b, h] = dq.to(query.dtype)
                k_sum += dk
                v_sum += dv
            d_key[b, g], d_value[b, g] = k_sum.to(key.dtype), v_sum.to(key.dtype)
