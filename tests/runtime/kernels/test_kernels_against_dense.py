"""Results and gradients of the kernels against dense attention in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_helpers import check
from runtime_helpers import plan_of, relations, window
from test_runtime_parts import PATTERNS, length_of, pattern

from attnloom.compiler.model import CostModel
from attnloom.runtime.executable import Executable
from attnloom.runtime.kernels.configurations import HEAD_DIMS
from attnloom.runtime.plan import Plan

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@st.composite
def problems(draw: st.DrawFn, most: int) -> tuple[Plan, dict[str, object]]:
    """Plans for heads that differ or not, and the shapes of tensors for them."""
    lengths = draw(st.integers(1, most)), draw(st.integers(1, most))
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (1, 3)]))
    heads = kv_heads * group
    different = draw(st.booleans())
    matrices = [draw(relations(*lengths)) for _ in range(heads if different else 1)]
    dense = np.stack(matrices * (1 if different else heads))[None]
    if draw(st.booleans()):
        dense = np.concatenate([dense, dense[:, ::-1]])
    sizes = draw(st.tuples(*[st.sampled_from([16, 24, 32, 64] if most > 99 else [24, 32, 64])] * 2))
    return plan_of(dense, *sizes), {
        "dtype": draw(st.sampled_from(DTYPES)),
        "head_dim": draw(st.sampled_from([8, 16, 24, 32])),
        "kv_heads": kv_heads,
        "batch": draw(st.integers(1, 2)),
        "seed": draw(st.integers(0, 99)),
    }


@settings(max_examples=4)
@given(problems(most=70))
def test_kernels_are_as_exact_as_dense_attention(problem: tuple[Plan, dict[str, object]]) -> None:
    plan, shapes = problem
    check(plan, **shapes)


@pytest.mark.slow
@settings(max_examples=150)
@given(problems(most=300))
def test_kernels_are_as_exact_as_dense_attention_on_more(
    problem: tuple[Plan, dict[str, object]],
) -> None:
    plan, shapes = problem
    check(plan, **shapes)


@pytest.mark.parametrize(
    "name", ["strided", "dilated heads", "scattered globals", "random links", "memory"]
)
def test_orders_parts_and_lists_change_no_result(name: str) -> None:
    check(pattern(name).compile(length_of(name, 90), heads=2, block=(16, 32)), kv_heads=1)


@pytest.mark.slow
@pytest.mark.parametrize("block", [16, (32, 16), 20, 64, 128])
@pytest.mark.parametrize("name", PATTERNS)
def test_orders_parts_and_lists_change_no_result_for_any_tile(
    name: str, block: int | tuple[int, int]
) -> None:
    plan = pattern(name).compile(length_of(name, 300), heads=4, block=block)
    check(plan, dtype=torch.bfloat16, kv_heads=2, head_dim=32)


PAIRS = [(head_dim, tile) for head_dim in HEAD_DIMS for tile in (16, 32, 64, 128)]
QUICK = [(16, 64), (32, 64), (64, 32), (80, 32), (96, 64), (128, 32), (192, 32), (256, 16)]


def check_pair(head_dim: int, tile: int, dtype: torch.dtype) -> None:
    """Two and a half tiles of a causal window, of all kinds of tiles."""
    length = 2 * tile + tile // 2 - 1
    dense = window(length, length, tile + 3, marks=[0, 1], causal=True)
    assert dense[tile : 2 * tile, :tile].any()
    check(plan_of(dense[None, None].repeat(2, 1), tile, tile), dtype=dtype, head_dim=head_dim)


@pytest.mark.parametrize(("head_dim", "tile"), QUICK)
def test_head_dim_and_tile_have_right_gradients(head_dim: int, tile: int) -> None:
    check_pair(head_dim, tile, torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "tile"), PAIRS)
def test_every_head_dim_and_tile_have_right_gradients(
    head_dim: int, tile: int, dtype: torch.dtype
) -> None:
    check_pair(head_dim, tile, dtype)


def test_long_rows_and_columns_are_split_and_joined() -> None:
    plan = pattern("scattered globals").compile(
        270, heads=1, block=16, model=CostModel(processors=400)
    )
    executable = Executable.of(plan.layouts, plan.layout_of_head.numpy())
    assert executable.forward_sizes.num_slots > 1
    assert executable.transposed_sizes.num_slots > 1
    check(plan, kv_heads=1)


@pytest.mark.slow
def test_long_rows_of_different_heads_and_elements_are_joined() -> None:
    plans = [
        pattern(name).compile(270, heads=1, block=16, model=CostModel(processors=400))
        for name in ("scattered globals", "dilated window")
    ]
    layouts = [plan.layouts[0] for plan in plans]
    check(Plan.from_layouts(layouts, [[0], [1]]), kv_heads=1)
    check(Plan.from_layouts(layouts, [[1, 0]]), kv_heads=1, batch=1)


def test_queries_and_keys_of_different_lengths_are_attended() -> None:
    check(plan_of(window(50, 90, 9, marks=[3])[None, None], 16, 32), kv_heads=1)


def test_plan_that_reads_nothing_gives_zeros() -> None:
    check(plan_of(np.zeros((1, 2, 40, 40), dtype=bool), 16, 16), kv_heads=2)
