"""The reference backend against a dense formula, and as a differentiable function."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_helpers import (
    assert_as_good_as_dense,
    inputs,
    plan_of,
    relation,
    relations,
    results,
    window,
    wishes_for,
)

from attnloom.runtime.attention import attention

reference = partial(attention, backend="reference", return_lse=True)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_reference_equals_the_dense_formula(data: st.DataObject) -> None:
    query_len, kv_len = (data.draw(st.sampled_from([1, 63, 129, 200])) for _ in range(2))
    kv_heads, group, batch = (data.draw(st.integers(1, 2)) for _ in range(3))
    heads = kv_heads * group
    dense = np.stack([data.draw(relations(query_len, kv_len)) for _ in range(heads)])[None]
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
    tensors = inputs((batch, heads, query_len, 16), kv_heads, kv_len, dtype)
    plan = plan_of(dense, *data.draw(st.sampled_from([(128, 128), (64, 32), (24, 12)])))
    allowed = torch.from_numpy(dense)
    wishes = wishes_for(tensors[0], allowed)
    got = results(partial(reference, plan=plan), tensors, wishes)
    assert_as_good_as_dense(got, tensors, allowed, 0.25, wishes)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_backend_has_the_derivatives_of_its_own_values(backend: str) -> None:
    dense = np.stack([window(5, 4, 1, marks=[2]), window(5, 4, 2, causal=True)])[None]
    dense[:, :, 3] = dense[:, :, :, 1] = False
    tensors = inputs((1, 2, 5, 2), 1, 4, torch.float64)
    plan = plan_of(dense, 8, 8)

    def finite(*x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output, lse = attention(*x, plan, return_lse=True, backend=backend)
        return output, lse[:, :, torch.tensor([0, 1, 2, 4])]

    assert torch.autograd.gradcheck(finite, tensors)
    if backend == "reference":
        assert torch.autograd.gradgradcheck(finite, tensors, fast_mode=True)


def test_query_that_reads_one_key_returns_its_value() -> None:
    plan = plan_of(np.eye(50, dtype=bool)[None, None])
    query, key, value = inputs((1, 1, 50, 16), 1, 50, torch.float64)
    output, lse = reference(query, key, value, plan)
    torch.testing.assert_close(output, value)
    torch.testing.assert_close(lse, (query * key).sum(-1) / 4)


def test_equal_scores_give_the_mean_and_the_logarithm_of_the_count() -> None:
    dense = np.tril(np.ones((60, 60), dtype=bool))
    _, key, value = inputs((1, 1, 60, 16), 1, 60, torch.float64)
    output, lse = reference(torch.zeros_like(key), key, value, plan_of(dense[None, None]))
    counts = torch.arange(1, 61, dtype=torch.float64)
    torch.testing.assert_close(lse[0, 0], counts.log())
    torch.testing.assert_close(output[0, 0], value[0, 0].cumsum(0) / counts[:, None])


@pytest.mark.parametrize("junk", [math.nan, math.inf])
def test_reference_never_touches_keys_that_are_not_read(junk: float) -> None:
    dense = window(100, 100, 20)[None, None]
    dense[..., 40:60] = False
    plan = plan_of(dense)
    tensors = inputs((1, 1, 100, 16), 1, 100, torch.float32)
    dirty = [tensors[0].detach(), *(x.detach().clone() for x in tensors[1:])]
    for x in dirty[1:]:
        x[:, :, 40:60] = junk
    wishes = wishes_for(tensors[0], torch.from_numpy(dense))
    expected, got = (results(partial(reference, plan=plan), x, wishes) for x in (tensors, dirty))
    assert all(torch.equal(got[name], expected[name]) for name in got)


@pytest.mark.usefixtures("several_threads")
def test_reference_gives_the_same_bits_twice() -> None:
    rng = np.random.default_rng(0)
    dense = relation(["window", "random", "globals"], 400, 400, rng)[None, None]
    tensors = inputs((1, 1, 400, 64), 1, 400, torch.float32)
    wishes = wishes_for(tensors[0], torch.from_numpy(dense))
    attend = partial(reference, plan=plan_of(dense))
    first, *others = (results(attend, tensors, wishes) for _ in range(4))
    assert all(torch.equal(other[name], first[name]) for other in others for name in first)


def test_chunks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = window(300, 300, 50, marks=[0])[None, None]
    tensors = inputs((1, 1, 300, 16), 1, 300, torch.float64)
    wishes = wishes_for(tensors[0], torch.from_numpy(dense))
    attend = partial(reference, plan=plan_of(dense))
    whole = results(attend, tensors, wishes)
    monkeypatch.setattr("attnloom.runtime.backends.reference._CHUNK_ELEMENTS", 5000)
    for name, x in results(attend, tensors, wishes).items():
        torch.testing.assert_close(x, whole[name])
