"""Softcap, ALiBi, sinks and key lengths on the CPU, against dense attention in float64."""

from __future__ import annotations

import pytest
import torch
from modifier_helpers import MODIFIERS, allowed_by, dense, given, results_with_sinks
from runtime_helpers import inputs, plan_of, window, wishes_for

from attnloom.runtime.attention import attention

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
    plan = plan_of(window(N, N, 9)[None, None], 32, 32)
    query, key, value = inputs((1, 1, N, 16), 1, N, torch.float64)
    sinks = torch.full((1,), -torch.inf, dtype=torch.float64)
    torch.testing.assert_close(
        attention(query, key, value, plan, sinks=sinks, backend=backend),
        attention(query, key, value, plan, backend=backend),
    )
