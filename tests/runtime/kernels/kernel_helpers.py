"""What the tests of the kernels share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from runtime_helpers import (
    assert_as_good_as_dense,
    fresh_memory_is_nan,
    inputs,
    results,
    wishes_for,
)

from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

by_kernels = partial(attention, return_lse=True, backend="triton")


def run(
    plan: Plan, tensors: Sequence[torch.Tensor], wishes: Sequence[torch.Tensor], **modifiers: Any
) -> dict[str, torch.Tensor]:
    """Results and gradients by the kernels, on the CPU again; nothing may be left unwritten."""
    there = [x.detach().to(DEVICE) for x in tensors]
    attend = partial(by_kernels, plan=plan.to(DEVICE), **modifiers)
    with fresh_memory_is_nan():
        got = results(attend, there, [x.to(DEVICE) for x in wishes])
    return {name: x.cpu() for name, x in got.items()}


def check(
    plan: Plan,
    *,
    dtype: torch.dtype = torch.float32,
    head_dim: int = 16,
    kv_heads: int = 1,
    batch: int = 1,
    seed: int = 0,
) -> None:
    """Compare results and gradients with dense attention."""
    allowed = plan.to_dense().cpu()
    _, heads, query_len, kv_len = allowed.shape
    shape = (plan.batch_size or batch, heads, query_len, head_dim)
    tensors = inputs(shape, kv_heads, kv_len, dtype, seed)
    wishes = wishes_for(tensors[0], allowed.expand(shape[0], -1, -1, -1))
    got = run(plan, tensors, wishes)
    assert_as_good_as_dense(got, tensors, allowed, head_dim**-0.5, wishes)


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(np.array_equal(bits(one[name]), bits(other[name])) for name in one)


def bits(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().view(torch.uint8).numpy()
