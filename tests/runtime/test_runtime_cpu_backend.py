"""The CPU backend against dense attention, and the laws that any attention obeys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_helpers import (
    assert_as_good_as_dense,
    dense_attention,
    fresh_memory_is_nan,
    inputs,
    plan_of,
    relation,
    relations,
    results,
    window,
    wishes_for,
)

from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LENGTHS = (1, 63, 100, 129, 300, 1000)
TILES = (
    (128, 128), (128, 64), (64, 128), (64, 64), (32, 16), (24, 12), (7, 7), (200, 100), (1, 1),
)  # fmt: skip


class Case:
    """A plan, the same as booleans, and tensors for it."""

    def __init__(self, allowed: torch.Tensor, plan: Plan, tensors: list[torch.Tensor]) -> None:
        self.allowed, self.plan, self.tensors = allowed, plan, tensors

    def __repr__(self) -> str:
        shapes = [tuple(x.shape) for x in self.tensors[:2]]
        return f"Case({shapes}, {self.tensors[0].dtype}, {self.plan!r})"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    query_len, kv_len = draw(st.sampled_from(LENGTHS)), draw(st.sampled_from(LENGTHS))
    if draw(st.booleans()):
        kv_len = query_len
    kv_heads, group, batch = (draw(st.integers(1, 2)) for _ in range(3))
    tiles = draw(
        st.sampled_from(
            [
                (128, 128),
                (128, 64),
                (64, 128),
                (64, 64),
                (32, 16),
                (24, 12),
                (7, 7),
                (200, 100),
                (1, 1),
            ]
        )
    )
    kinds = draw(st.lists(relations(query_len, kv_len), min_size=1, max_size=3))
    rows = batch if draw(st.booleans()) else 1
    layout_of_head = st.lists(
        st.integers(0, len(kinds) - 1), min_size=rows * kv_heads * group,
        max_size=rows * kv_heads * group,
    )  # fmt: skip
    dense = np.stack([kinds[number] for number in draw(layout_of_head)])
    dense = dense.reshape(rows, kv_heads * group, query_len, kv_len)
    shape = (batch, kv_heads * group, query_len, draw(st.sampled_from([16, 64, 128])))
    dtype = draw(st.sampled_from(DTYPES))
    return case_of(dense, shape, kv_heads, dtype, tiles, draw(st.integers(0, 100)))


def case_of(
    dense: np.ndarray,
    shape: tuple[int, int, int, int],
    kv_heads: int,
    dtype: torch.dtype = torch.float32,
    tiles: tuple[int, int] = (128, 128),
    seed: int = 0,
) -> Case:
    tensors = inputs(shape, kv_heads, dense.shape[3], dtype, seed)
    return Case(torch.from_numpy(dense), plan_of(dense, *tiles), tensors)


def check(case: Case, scale: float | None = None) -> None:
    """Compare with dense attention; nothing may be left unwritten."""
    wishes = wishes_for(case.tensors[0], case.allowed)

    def attend(*tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return attention(*tensors, case.plan, scale=scale, return_lse=True, backend="cpu")

    with fresh_memory_is_nan():
        got = results(attend, case.tensors, wishes)
    factor = case.tensors[0].shape[-1] ** -0.5 if scale is None else scale
    assert_as_good_as_dense(got, case.tensors, case.allowed, factor, wishes)


def test_what_the_tests_call_fresh_memory_is_nan() -> None:
    with fresh_memory_is_nan():
        assert torch.empty(3).isnan().all()
        assert torch.zeros(1, dtype=torch.bfloat16).new_empty(3).isnan().all()


PROFILE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=100, **PROFILE)
@given(cases())
def test_output_lse_and_gradients_are_as_exact_as_dense_attention(case: Case) -> None:
    check(case)


@pytest.mark.slow
@settings(max_examples=1500, **PROFILE)
@given(cases())
def test_many_relations_are_as_exact_as_dense_attention(case: Case) -> None:
    check(case)


@contextmanager
def everything_in_small_chunks() -> Iterator[None]:
    """Bounds so low that lengths of a few hundred meet them."""
    backends = "attnloom.runtime.backends"
    bounds = {
        f"{backends}._cpu_forward": {"CHUNK_ELEMENTS": 1 << 12, "_LONG_SPLIT": 60},
        f"{backends}._cpu_backward": {"_PAIRS": 1 << 11},
        f"{backends}._cpu_pieces": {
            "CHUNK_ELEMENTS": 1 << 14, "_KEPT_PAIRS": 0, "_TABLE_ELEMENTS": 0,
        },
        f"{backends}.cpu": {"_ROWS_AT_ONCE": 256, "_HEADS_AT_ONCE": 2},
        "attnloom.runtime.cut": {"_MIN_SHARED": 2, "_MAX_LONG": 3},
        "attnloom.runtime.cut_bands": {"MIN_BAND": 2},
    }  # fmt: skip
    with ExitStack() as stack:
        for module, values in bounds.items():
            stack.enter_context(patch.multiple(module, **values))
        yield


@settings(max_examples=50, **PROFILE)
@given(cases())
def test_small_chunks_are_as_exact_as_dense_attention(case: Case) -> None:
    with everything_in_small_chunks():
        check(case)


@pytest.mark.slow
@settings(max_examples=1000, **PROFILE)
@given(cases())
def test_many_small_chunks_are_as_exact_as_dense_attention(case: Case) -> None:
    with everything_in_small_chunks():
        check(case)


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("chunks", [nullcontext, everything_in_small_chunks])
def test_tiles_of_any_size(tiles: tuple[int, int], chunks: Any) -> None:
    dense = np.stack(
        [window(500, 500, 40, marks=range(3)), window(500, 500, 60, marks=[7, 300], causal=True)]
    )[None]
    with chunks():
        check(case_of(dense, (1, 2, 500, 16), 1, torch.float32, tiles))


@pytest.mark.parametrize("chunks", [nullcontext, everything_in_small_chunks])
def test_band_in_which_some_queries_read_nothing(chunks: Any) -> None:
    i, j = np.arange(1100)[:, None], np.arange(1100)
    chunked = (i // 128 == j // 128) & (i % 128 < 100) & (i % 3 > 0)
    with chunks():
        check(case_of((chunked | (j < 2))[None, None], (1, 1, 1100, 16), 1))
        check(case_of(chunked[None, None], (1, 1, 1100, 16), 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [1, 3, 16, 64, 128, 256])
def test_every_head_dim_and_dtype(head_dim: int, dtype: torch.dtype) -> None:
    dense = window(300, 300, 20, marks=[0, 1, 200])[None, None]
    check(case_of(dense, (1, 1, 300, head_dim), 1, dtype))


@pytest.mark.parametrize(
    ("query_len", "kv_len"), [(1, 1), (63, 63), (129, 129), (1000, 1000), (1, 1000), (1000, 63)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_windows_of_any_length(query_len: int, kv_len: int, causal: bool) -> None:
    dense = window(query_len, kv_len, 100, marks=range(4), causal=causal)[None, None]
    check(case_of(dense, (1, 1, query_len, 16), 1))


@pytest.mark.parametrize("scale", [0.0, -0.3, 1, 4.0])
def test_scale_is_any_finite_number(scale: float) -> None:
    dense = window(300, 300, 20, marks=[7])[None, None]
    check(case_of(dense, (1, 1, 300, 16), 1, torch.float64), scale=scale)


def test_query_heads_share_key_heads_in_order() -> None:
    dense = window(200, 200, 10)[None, None].repeat(6, 1)
    case = case_of(dense, (2, 6, 200, 16), 3)
    query, key, value = case.tensors
    output = attention(query, key, value, case.plan)
    expanded = [x.repeat_interleave(2, 1) for x in (key, value)]
    torch.testing.assert_close(output, attention(query, *expanded, case.plan))


def test_every_head_follows_its_own_pattern() -> None:
    kinds = [window(257, 257, 5), window(257, 257, 40, causal=True), window(257, 257, 0, marks=[3])]
    check(case_of(np.stack(kinds)[None], (2, 3, 257, 16), 3))


def test_every_batch_element_follows_its_own_pattern() -> None:
    lengths = (257, 100, 1)
    dense = np.stack([window(257, 257, 30, marks=[0]) for _ in lengths])[:, None].repeat(4, 1)
    for b, length in enumerate(lengths):
        dense[b, :, length:] = dense[b, :, :, length:] = False
    check(case_of(dense, (3, 4, 257, 16), 2))


def test_query_that_reads_nothing_gives_zero_and_minus_infinity() -> None:
    dense = window(500, 500, 30, marks=[2])
    dense[[0, 100, 499]] = dense[200:330] = False
    case = case_of(dense[None, None], (1, 1, 500, 16), 1)
    check(case)
    query, key, value = case.tensors
    output, lse = attention(query, key, value, case.plan, return_lse=True)
    silent = ~case.allowed.any(-1)
    assert (output[silent] == 0).all()
    assert (lse[silent] == -math.inf).all()
    assert (lse[~silent] > -math.inf).all()
    # Even where the gradients of the lse are not numbers there, as those of a softmax over it.
    d_lse = torch.zeros_like(lse).masked_fill(silent, math.nan)
    gradients = torch.autograd.grad((output, lse), case.tensors, (torch.ones_like(output), d_lse))
    assert all(x.isfinite().all() for x in gradients)
    assert (gradients[0][silent] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_relation_without_pairs_gives_zero(dtype: torch.dtype) -> None:
    dense = np.zeros((1, 2, 200, 300), dtype=bool)
    check(case_of(dense, (2, 2, 200, 16), 1, dtype))


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_that_nobody_reads_may_hold_anything(dtype: torch.dtype, junk: float) -> None:
    rng = np.random.default_rng(0)
    dense = np.stack(
        [
            window(600, 600, 70, marks=[0, 1]),
            relation(["random", "tiles"], 600, 600, rng),
            window(600, 600, 30, causal=True),
            relation(["globals", "strided"], 600, 600, rng),
        ]
    )[None]
    unread = torch.from_numpy(rng.random(600) < 0.2)
    dense[..., unread] = False
    case = case_of(dense, (1, 4, 600, 16), 2, dtype)
    clean = [x.detach().clone() for x in case.tensors]
    dirty = [clean[0], *(x.clone() for x in clean[1:])]
    for x in dirty[1:]:
        x[:, :, unread] = junk
    wishes = wishes_for(clean[0], case.allowed)
    expected, got = (
        results(partial(attention, plan=case.plan, return_lse=True), tensors, wishes)
        for tensors in (clean, dirty)
    )
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    )
    for name, x in got.items():
        torch.testing.assert_close(
            x, expected[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance
        )
    assert (got["d_key"][:, :, unread] == 0).all()
    assert (got["d_value"][:, :, unread] == 0).all()


@settings(max_examples=15, **PROFILE)
@given(st.data())
def test_junk_spreads_exactly_as_far_as_by_definition(data: st.DataObject) -> None:
    length = data.draw(st.sampled_from([63, 129, 300]))
    dense = data.draw(relations(length, length))[None, None]
    case = case_of(dense, (1, 1, length, 16), 1)
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    dirty = [x.detach().clone() for x in case.tensors]
    for x in dirty:
        x[:, :, rng.integers(0, length, 2), rng.integers(0, 16)] = data.draw(
            st.sampled_from([0.0, math.nan, math.inf, -math.inf])
        )
    wishes = wishes_for(dirty[0], case.allowed)
    for wish in wishes:
        wish[:, :, rng.random(length) < 0.5] = 0
    expected, got = (
        results(partial(attention, plan=case.plan, return_lse=True, backend=backend), dirty, wishes)
        for backend in ("reference", "cpu")
    )
    for name, x in got.items():
        torch.testing.assert_close(
            x,
            expected[name],
            rtol=1e-4,
            atol=1e-4,
            equal_nan=True,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("which", [0, 1])
def test_score_of_minus_infinity_is_not_a_mask(which: int) -> None:
    case = case_of(np.eye(100, dtype=bool)[None, None], (1, 1, 100, 16), 1)
    dirty = [x.detach().abs() + 0.1 for x in case.tensors]
    dirty[which][0, 0, 82, 0] = -math.inf
    output = attention(*dirty, case.plan)
    assert output[0, 0, 82].isnan().all()
    assert output[0, 0, :82].isfinite().all()


def test_junk_in_one_key_head_stays_there() -> None:
    dense = window(300, 300, 40, marks=[0])[None, None].repeat(4, 1)
    case = case_of(dense, (2, 4, 300, 16), 2)
    clean = [x.detach() for x in case.tensors]
    dirty = [x.clone() for x in clean]
    dirty[1][1, 0, 77] = math.nan
    wishes = wishes_for(clean[0], case.allowed)
    attend = partial(attention, plan=case.plan, return_lse=True)
    expected, got = results(attend, clean, wishes), results(attend, dirty, wishes)
    touched = torch.zeros(2, 4, dtype=torch.bool)
    touched[1, :2] = True
    for name, x in got.items():
        of_key = name in ("d_key", "d_value")
        where = touched[:, ::2] if of_key else touched
        assert torch.equal(x[~where], expected[name][~where])
        assert not torch.equal(x[where], expected[name][where])


def test_order_of_the_batch_does_not_matter() -> None:
    dense = np.stack([window(300, 300, reach, marks=[reach]) for reach in (3, 50, 0, 120)])
    tensors = [x.detach() for x in inputs((4, 2, 300, 16), 1, 300, torch.float32)]
    order = torch.tensor([2, 0, 3, 1])
    plan = plan_of(dense[:, None].repeat(2, 1))
    permuted = plan_of(dense[order][:, None].repeat(2, 1))
    output = attention(*tensors, plan)[order]
    torch.testing.assert_close(attention(*(x[order] for x in tensors), permuted), output)


def test_another_sequence_of_the_batch_has_no_influence() -> None:
    dense = window(300, 300, 40, marks=[0])[None, None]
    plan = plan_of(dense)
    tensors = [x.detach() for x in inputs((2, 1, 300, 16), 1, 300, torch.float32)]
    others = [torch.cat([x[:1], 100 * x[1:]]) for x in tensors]
    assert torch.equal(attention(*tensors, plan)[0], attention(*others, plan)[0])


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_runs_give_the_same_bits(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    dense = np.stack(
        [
            window(2000, 2000, 200, marks=range(8)),
            relation(["random", "globals"], 2000, 2000, rng),
            relation(["tiles", "blocks"], 2000, 2000, rng),
        ]
    )[None]
    case = case_of(dense, (2, 3, 2000, 64), 3, dtype)
    wishes = wishes_for(case.tensors[0], case.allowed)
    first, *others = (
        results(partial(attention, plan=case.plan, return_lse=True), case.tensors, wishes)
        for _ in range(3)
    )
    for other in others:
        assert all(torch.equal(other[name], first[name]) for name in first)


def test_large_scores_do_not_overflow() -> None:
    dense = window(400, 400, 50, marks=[0, 1])[None, None]
    query, key, value = (x.detach() for x in inputs((1, 1, 400, 16), 1, 400, torch.float32))
    output, lse = attention(100 * query, 100 * key, value, plan_of(dense), return_lse=True)
    expected, expected_lse = dense_attention(
        100 * query.double(), 100 * key.double(), value.double(), torch.from_numpy(dense), 0.25
    )
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-5, atol=1e-5)
    # Scores of some 10^4 leave float32 some 10^-3 of their differences.
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=2e-2)


def test_empty_batch_gives_an_empty_result() -> None:
    plan = plan_of(window(100, 100, 3)[None, None])
    query, key, value = inputs((0, 1, 100, 16), 1, 100, torch.float32)
    for backend in ("cpu", "reference"):
        output, lse = attention(query, key, value, plan, return_lse=True, backend=backend)
        assert (output.shape, lse.shape) == ((0, 1, 100, 16), (0, 1, 100))
        gradients = torch.autograd.grad(
            output.sum() + lse.sum(), (query, key, value), materialize_grads=True
        )
        assert [x.shape for x in gradients] == [(0, 1, 100, 16)] * 3
