"""NaN and infinity have an effect on those that read them, and on nobody else."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from kernel_helpers import DEVICE, by_kernels
from runtime_helpers import inputs, plan_of, results, window

from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

N = 20


def both(plan: Plan, tensors: list[torch.Tensor], **more: object) -> list[dict[str, torch.Tensor]]:
    """What the kernels make of the tensors, and what the definition does."""
    wishes = [torch.ones_like(tensors[0]), torch.ones(tensors[0].shape[:-1])]
    there = [x.detach().to(DEVICE) for x in tensors]
    attend = partial(by_kernels, plan=plan.to(DEVICE), **more)
    got = results(attend, there, [x.to(DEVICE) for x in wishes])
    by_definition = partial(attention, plan=plan, return_lse=True, backend="reference", **more)
    return [{name: x.cpu() for name, x in got.items()}, results(by_definition, tensors, wishes)]


def assert_alike(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, x in expected.items():
        assert torch.equal(got[name].isfinite(), x.isfinite()), name
        torch.testing.assert_close(
            got[name].nan_to_num(0, 0, 0), x.nan_to_num(0, 0, 0), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("junk", [torch.nan, pytest.param(torch.inf, marks=pytest.mark.slow)])
def test_key_that_no_query_reads_may_hold_anything(junk: float) -> None:
    dense = window(N, N, 5)
    dense[:, [7, 17]] = False
    plan = plan_of(dense[None, None], 16, 16)
    tensors = [x.detach() for x in inputs((1, 1, N, 16), 1, N, torch.float32)]
    expected, _ = both(plan, tensors)
    for x in tensors[1:]:
        x[:, :, [7, 17]] = junk
    got, _ = both(plan, tensors)
    assert all(x.isfinite().all() for x in got.values())
    assert_alike(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("where", [0, 1, 2])
def test_junk_spreads_as_far_as_by_definition(where: int) -> None:
    dense = np.stack([window(N, N, 5, marks=[3]), window(N, N, 9, causal=True)])[None]
    tensors = [x.detach() for x in inputs((1, 2, N, 16), 1, N, torch.float32)]
    tensors[where][:, :, 9, 3] = torch.nan
    assert_alike(*both(plan_of(dense, 16, 32), tensors))


@pytest.mark.slow
@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf])
def test_junk_spreads_as_far_with_modifiers_and_in_bit_tiles(where: int, junk: float) -> None:
    dense = np.random.default_rng(0).random((1, 2, 70, 70)) < 0.2
    tensors = [x.detach() for x in inputs((1, 2, 70, 16), 2, 70, torch.float32)]
    tensors[where][:, :, 33] = junk
    sinks = torch.tensor([0.5, -1.0])
    plan = plan_of(dense, 32, 32)
    assert_alike(*both(plan, tensors, sinks=sinks, key_lengths=torch.tensor([60])))
