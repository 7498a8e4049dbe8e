"""Orders, gathered tiles, listed rows and several parts change no result."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_helpers import (
    assert_as_good_as_dense,
    fresh_memory_is_nan,
    inputs,
    results,
    wishes_for,
)
from test_runtime_pieces import ROWS_OF_BAND, dense_of

import attnloom
from attnloom.compiler.passes import OPTIONAL
from attnloom.runtime.attention import attention
from attnloom.runtime.cut import cut
from attnloom.runtime.plan import Plan

PATTERNS = {
    "dilated window": "window(each_side=5, dilation=4)",
    "strided": "only causal; window(last=16); stride(24)",
    "dilated heads": "when head == 0 { window(each_side=4, dilation=3) } "
    "else { window(each_side=8) }",
    "scattered globals": "window(each_side=3); global(every 37)",
    "scattered keys": "only causal; window(last=9); broadcast(every 19 from 2)",
    "random links": "window(each_side=2); random(links=3, seed=1)",
    "random and global": "random(links=2, seed=5); global(every 53)",
    "neighborhood": "grid(24, 24) { neighborhood(5, 5) }",
    "strips": "grid(24, 24) { near(2) }; stride(24)",
    "chunks": "window(each_side=1); chunks(64) & stride(4)",
    "memory": "memory(5); window(each_side=4, dilation=2)",
    "some rows read nothing": "window(each_side=6, dilation=2) - collect(every 7)",
    "globals that read little": "window(each_side=2); collect(every 23) - broadcast(100..n) - "
    "collect(46..47)",
}


def pattern(name: str) -> attnloom.Pattern:
    return attnloom.parse(f"pattern p {{ {PATTERNS[name]} }}")


def length_of(name: str, n: int) -> int:
    return 576 if "grid" in PATTERNS[name] else n


def masks_of(name: str, n: int, heads: int) -> np.ndarray:
    return np.stack([pattern(name).mask(n, head=h, heads=heads) for h in range(heads)])[None]


def check(plan: Plan, allowed: torch.Tensor, dtype: torch.dtype, head_dim: int) -> None:
    """Compare with dense attention; nothing may be left unwritten."""
    length, heads = allowed.shape[-1], allowed.shape[1]
    tensors = inputs((2, heads, length, head_dim), heads // 2, length, dtype)
    wishes = wishes_for(tensors[0], allowed)
    with fresh_memory_is_nan():
        got = results(partial(attention, plan=plan, return_lse=True), tensors, wishes)
    assert_as_good_as_dense(got, tensors, allowed, head_dim**-0.5, wishes)


@pytest.mark.parametrize("name", PATTERNS)
def test_reads_and_results_are_those_of_the_pattern(name: str) -> None:
    n = length_of(name, 300)
    masks = masks_of(name, n, 2)
    for block in (64, (32, 16)):
        plan = pattern(name).compile(n, heads=2, block=block)
        assert (plan.to_dense().numpy() == masks).all()
        assert plan.reads == masks.sum()
        check(plan, torch.from_numpy(masks), torch.float32, 16)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(PATTERNS)),
    st.sampled_from([1, 2, 63, 100, 257, 420]),
    st.sampled_from([(128, 128), (64, 32), (16, 64), (32, 32)]),
    st.sets(st.sampled_from(OPTIONAL)),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    st.sampled_from([16, 64]),
)
def test_no_pass_changes_the_results(
    name: str, n: int, block: tuple[int, int], without: set[str], dtype: torch.dtype, head_dim: int
) -> None:
    n = length_of(name, n)
    masks = masks_of(name, n, 2)
    plan = pattern(name).compile(n, heads=2, block=block, without=without)
    assert (plan.to_dense().numpy() == masks).all()
    check(plan, torch.from_numpy(masks), dtype, head_dim)


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_no_combination_of_passes_changes_the_results(name: str) -> None:
    n = length_of(name, 300)
    masks = torch.from_numpy(masks_of(name, n, 2))
    for size in range(len(OPTIONAL) + 1):
        for without in itertools.combinations(OPTIONAL, size):
            check(
                pattern(name).compile(n, heads=2, block=32, without=without),
                masks, torch.float32, 16,
            )  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("block", [16, (64, 32), 128])
def test_pieces_of_packed_tiles_hold_every_pair_once(
    name: str, block: int | tuple[int, int]
) -> None:
    plan = pattern(name).compile(length_of(name, 500), block=block)
    for part in plan.layouts[0].parts:
        rows = part.forward
        assert (dense_of(cut(rows, rows_of_band=ROWS_OF_BAND), rows) == rows.to_dense()).all()


def test_patterns_exercise_what_they_should() -> None:
    plans = {name: pattern(name).compile(length_of(name, 500), block=16) for name in PATTERNS}
    parts = {name: plan.layouts[0].parts for name, plan in plans.items()}
    assert any(part.order is not None for part in parts["dilated window"])
    assert len(parts["strided"]) == 2
    assert any(part.forward.num_gathered for part in parts["random links"])
    assert any(len(part.forward.listed) for part in parts["scattered globals"])
    assert any(part.order is not None for part in parts["neighborhood"])


def test_what_is_not_read_has_no_effect_in_another_order() -> None:
    n = 200
    plan = pattern("dilated window").compile(n, heads=2, block=32)
    masks = masks_of("dilated window", n, 2)
    unread = int(np.flatnonzero(~masks[0, 0, 100])[0])
    tensors = inputs((1, 2, n, 16), 1, n, torch.float32)
    expected = attention(*tensors, plan)[:, :, 100]
    with torch.no_grad():
        tensors[1][:, :, unread] = torch.nan
        tensors[2][:, :, unread] = torch.inf
    torch.testing.assert_close(attention(*tensors, plan)[:, :, 100], expected)
