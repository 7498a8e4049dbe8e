"""Softcap, ALiBi, sinks and key lengths on the CPU, against dense attention in float64."""

from __future__ import annotations

import math

import pytest
import torch
from modifier_helpers import MODIFIERS, allowed_by, dense, given, results_with_sinks
from runtime_helpers import inputs, plan_of, window, wishes_for

from attnloom.runtime.attention import attention
from attnloom.runtime.modifiers import with_sinks

N = 90


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", MODIFIERS)
def test_modifiers_do_what_they_say(name: str, backend: str) -> None:
    mask = window(N, N, 9, marks=[0], causal=True)[None, None].repeat(2, 1)
    mask[:, :, 5] = False  # a query that reads nothing
    plan = plan_of(mask, 32, 32)
    query, key, value = inputs((2, 2, N, 16), 1, N, torch.float64)
    own = given(name, heads=2, batch=2, dtype=torch.float64)
    allowed = allowed_by(torch.from_numpy(mask), own, batch=2)
    wishes = wishes_for(query, allowed if "sinks" not in own else torch.ones_like(allowed))

    def attend(*x: torch.Tensor, **modifiers: object) -> tuple[torch.Tensor, torch.Tensor]:
        return attention(*x, plan, return_lse=True, backend=backend, **modifiers)

    got = results_with_sinks(attend, (query, key, value), wishes, own)
    expected = results_with_sinks(
        lambda *x, **more: dense(*x, torch.from_numpy(mask), **more),
        (query, key, value),
        wishes,
        own,
    )
    for name_of_result, x in expected.items():
        torch.testing.assert_close(got[name_of_result], x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_keys_behind_the_length_may_hold_anything(backend: str) -> None:
    plan = plan_of(window(N, N, 9)[None, None], 32, 32)
    query, key, value = (x.detach() for x in inputs((2, 1, N, 16), 1, N, torch.float32))
    lengths = torch.tensor([40, N])
    expected = attention(query, key, value, plan, key_lengths=lengths, backend=backend)
    key[0, :, 40:], value[0, :, 40:] = torch.nan, torch.inf
    got = attention(query, key, value, plan, key_lengths=lengths, backend=backend)
    assert torch.equal(got, expected)
    assert (got[0, 0, 60:] == 0).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_sink_of_minus_infinity_is_no_sink(backend: str) -> None:
    allowed = window(N, N, 9)
    allowed[7] = False  # a row that reads nothing
    plan = plan_of(allowed[None, None], 32, 32)
    query, key, value = inputs((1, 1, N, 16), 1, N, torch.float64)
    sinks = torch.full((1,), -torch.inf, dtype=torch.float64, requires_grad=True)

    def results(**own: torch.Tensor) -> list[torch.Tensor]:
        output, lse = attention(query, key, value, plan, return_lse=True, backend=backend, **own)
        wanted = [query, key, value, *own.values()]
        loss = (output * output).sum() + lse[lse > -torch.inf].sum()
        return [output, lse, *torch.autograd.grad(loss, wanted)]

    *got, d_sinks = results(sinks=sinks)
    torch.testing.assert_close(got, results())
    assert d_sinks.tolist() == [0.0]


def test_gradients_through_sinks_are_finite_where_there_is_nothing() -> None:
    output = torch.zeros(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    lse = torch.tensor([[[-torch.inf, 0.5]]], dtype=torch.float64, requires_grad=True)
    for value in (-torch.inf, 0.25):
        sinks = torch.tensor([value], dtype=torch.float64, requires_grad=True)
        found, total = with_sinks(output + 1, lse, sinks)
        expected = torch.tensor([[-torch.inf, 0.5]]).double().exp() + math.exp(value)
        torch.testing.assert_close(total[0].exp(), expected)
        loss = found.sum() + total[total > -torch.inf].sum()
        assert all(x.isfinite().all() for x in torch.autograd.grad(loss, [output, lse, sinks]))
