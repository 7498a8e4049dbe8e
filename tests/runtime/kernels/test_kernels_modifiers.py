"""Softcap, ALiBi, sinks and key lengths in the kernels, against dense attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_helpers import DEVICE, by_kernels
from modifier_helpers import MODIFIERS, dense, given, results_with_sinks
from runtime_helpers import ROUNDING, inputs, lse_dtype, plan_of, window, wishes_for
from test_runtime_parts import pattern

from attnloom.compiler.model import CostModel
from attnloom.runtime.plan import Plan


def check(plan: Plan, name: str, dtype: torch.dtype, kv_heads: int, batch: int = 2) -> None:
    """Errors are at most twice those of dense attention in the same dtype, plus rounding."""
    mask = plan.to_dense()
    _, heads, query_len, kv_len = mask.shape
    own = given(name, heads=heads, batch=batch, dtype=torch.float32)
    tensors = inputs((batch, heads, query_len, 16), kv_heads, kv_len, dtype)
    wishes = wishes_for(tensors[0], torch.ones(batch, heads, query_len, kv_len, dtype=torch.bool))

    def by_dense(*x: torch.Tensor, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return dense(*x, mask, **more)

    there = {n: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for n, x in own.items()}
    got = results_with_sinks(
        lambda *x, **more: by_kernels(*x, plan.to(DEVICE), **more),
        [x.detach().to(DEVICE) for x in tensors], [x.to(DEVICE) for x in wishes], there,
    )  # fmt: skip
    precise = {
        n: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for n, x in own.items()
    }
    exact = results_with_sinks(by_dense, [x.double() for x in tensors], wishes, precise)
    usual = results_with_sinks(by_dense, tensors, wishes, own)
    for result, expected in exact.items():
        x = got[result].cpu()
        assert (torch.isneginf(x) == torch.isneginf(expected)).all()
        error, usual_error = (
            (y.double() - expected).nan_to_num(0, 0, 0).abs().max() for y in (x, usual[result])
        )
        kind = dtype if result not in ("lse", "d_sinks") else lse_dtype(dtype)
        # A sink's gradient is a sum over all queries.
        size = 1 + expected.nan_to_num(0, 0, 0).abs().max() + 10 * (result == "d_sinks")
        budget = 2 * usual_error + ROUNDING[kind] * torch.finfo(kind).eps * size
        assert error <= budget, f"{result}: {error:.3g} > {budget:.3g}"


def causal_plan() -> Plan:
    mask = window(75, 75, 40, marks=[0], causal=True)[None, None].repeat(2, 1)
    mask[:, :, 5] = False  # a query that reads nothing
    return plan_of(mask, 64, 64)


@pytest.mark.parametrize("name", MODIFIERS)
def test_modifiers_do_what_they_say(name: str) -> None:
    check(causal_plan(), name, torch.float32, kv_heads=1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MODIFIERS)
def test_modifiers_are_as_exact_in_half_precision(name: str, dtype: torch.dtype) -> None:
    check(causal_plan(), name, dtype, kv_heads=2)


@pytest.mark.slow
def test_modifiers_hold_for_reordered_listed_and_split_rows() -> None:
    model = CostModel(processors=400)
    for name in ("strided", "scattered globals", "dilated heads"):
        plan = pattern(name).compile(270, heads=2, block=16, model=model)
        check(plan, "all", torch.float32, kv_heads=1)


def test_keys_behind_the_length_may_hold_anything() -> None:
    plan = causal_plan().to(DEVICE)
    query, key, value = (
        x.detach().to(DEVICE) for x in inputs((1, 2, 75, 16), 1, 75, torch.float32)
    )
    lengths = torch.tensor([40], device=DEVICE)
    expected = by_kernels(query, key, value, plan, key_lengths=lengths)
    key[:, :, 40:], value[:, :, 40:] = torch.nan, torch.inf
    got = by_kernels(query, key, value, plan, key_lengths=lengths)
    assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))
