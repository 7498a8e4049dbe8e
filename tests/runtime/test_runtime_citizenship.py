"""`attention` among the other parts of PyTorch: graphs, autocast, strides, threads."""

from __future__ import annotations

import gc
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from runtime_helpers import inputs, plan_of, relation, results, window, wishes_for
from torch.utils.checkpoint import checkpoint

from attnloom.runtime.attention import attention
from attnloom.runtime.backends import _cpu_pieces, _cpu_plan
from attnloom.runtime.plan import Plan

N = 150
RNG = np.random.default_rng(0)
RELATIONS = {
    "window": np.stack([window(N, N, 10, marks=[0]), window(N, N, 3, causal=True)])[None],
    "random": relation(["random", "empty rows"], N, N, RNG)[None, None].repeat(2, 1),
    "nothing": np.zeros((1, 2, N, N), dtype=bool),
    "batch": np.stack([window(N, N, reach)[None].repeat(2, 0) for reach in (3, 60)]),
}


def operator_arguments(plan: Plan, tensors: list[torch.Tensor]) -> tuple[Any, ...]:
    tiles, sizes = plan.operands("cpu")
    return (*tensors, list(tiles), plan.layout_of_head, list(sizes), 0.25, "cpu")


def turned(x: torch.Tensor) -> torch.Tensor:
    """The same numbers as a model lays them out, with the heads behind the length."""
    return x.detach().transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("name", RELATIONS)
@pytest.mark.parametrize("turn", [False, True])
def test_operators_pass_the_checks_of_pytorch(name: str, turn: bool) -> None:
    plan = plan_of(RELATIONS[name], 64, 64)
    tensors = [x.detach() for x in inputs((2, 2, N, 16), 1, N, torch.float32)]
    if turn:
        tensors = [turned(x) for x in tensors]
    arguments = operator_arguments(plan, tensors)
    forward = torch.ops.attnloom.attention.default
    backward = torch.ops.attnloom.attention_backward.default
    torch.library.opcheck(forward, arguments)
    output, lse = forward(*arguments)
    d_output, d_lse = torch.randn_like(output), torch.randn_like(lse)
    if turn:
        d_output = turned(d_output)
    torch.library.opcheck(backward, (d_output, d_lse, *tensors, output, lse, *arguments[3:]))


def gradients(attend: Any, tensors: list[torch.Tensor], plan: Plan) -> list[torch.Tensor]:
    """What comes out, and the gradients through output and lse."""
    output, lse = attend(*tensors, plan)
    loss = (output.float() ** 2).sum() + lse.masked_fill(lse == -torch.inf, 0).sum()
    return [output, lse, *torch.autograd.grad(loss, tensors)]


attend_with_lse = partial(attention, return_lse=True)


def assert_same_bits(got: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert [torch.equal(x, y) for x, y in zip(got, expected, strict=True)] == [True] * len(got)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_function_gives_the_same_bits_in_one_graph(backend: str) -> None:
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend(backend)

    @torch.compile(fullgraph=True, backend=graphs)
    def compiled(q: Any, k: Any, v: Any, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
        output, lse = attention(q * 2, k, v, plan, scale=0.5, return_lse=True)
        return output * 3, lse

    def plain(q: Any, k: Any, v: Any, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
        output, lse = attention(q * 2, k, v, plan, scale=0.5, return_lse=True)
        return output * 3, lse

    tensors = inputs((2, 2, N, 16), 1, N, torch.float32)
    # Plans of the same structure share a graph, and yet each is followed.
    for reach in range(1, 11):
        plan = plan_of(window(N, N, reach)[None, None].repeat(2, 1), 64, 64)
        assert_same_bits(gradients(compiled, tensors, plan), gradients(plain, tensors, plan))
    assert graphs.frame_count == 1


def test_compiled_function_takes_batches_of_any_size_in_two_graphs() -> None:
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(attend_with_lse, fullgraph=True, backend=graphs)
    plan = plan_of(RELATIONS["window"], 64, 64)
    for batch in (2, 3, 5, 7):
        tensors = inputs((batch, 2, N, 16), 2, N, torch.float32)
        assert_same_bits(
            gradients(compiled, tensors, plan), gradients(attend_with_lse, tensors, plan)
        )
    assert graphs.frame_count <= 2


def test_one_tensor_may_be_query_key_and_value_even_in_a_graph() -> None:
    torch._dynamo.reset()
    plan = plan_of(RELATIONS["window"], 64, 64)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    (x, _, _) = inputs((1, 2, N, 16), 2, N, torch.float64)
    copies = [x.detach().clone().requires_grad_() for _ in range(3)]
    expected = torch.autograd.grad(attention(*copies, plan).square().sum(), copies)
    for attend in (attention, compiled):
        (gradient,) = torch.autograd.grad(attend(x, x, x, plan).square().sum(), x)
        torch.testing.assert_close(gradient, sum(expected))


def test_wrong_call_is_refused_in_a_graph_as_outside() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(attention, backend="eager")
    query, key, value = inputs((1, 2, N, 16), 2, N, torch.float32)
    with pytest.raises(ValueError, match="query must have the length of the plan, 150, got 149"):
        compiled(query[:, :, 1:], key, value, plan_of(RELATIONS["window"]))


def test_exported_program_gives_the_same_bits() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plan = plan_of(RELATIONS["window"])

        def forward(self, query: Any, key: Any, value: Any) -> torch.Tensor:
            return attention(query, key, value, self.plan)

    tensors = tuple(x.detach() for x in inputs((1, 2, N, 16), 2, N, torch.float32))
    exported = torch.export.export(Model(), tensors)
    assert torch.equal(exported.module()(*tensors), Model()(*tensors))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_autocast_lowers_the_inputs_and_returns_gradients_as_they_were(backend: str) -> None:
    plan = plan_of(RELATIONS["window"])
    tensors = inputs((1, 2, N, 16), 2, N, torch.float32)
    attend = partial(attention, return_lse=True, backend=backend)
    lowered = [x.detach().bfloat16().requires_grad_() for x in tensors]
    expected = gradients(attend, lowered, plan)

    def lowering(*arguments: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return attend(*arguments)

    got = gradients(lowering, tensors, plan)
    assert [x.dtype for x in got] == [torch.bfloat16, *[torch.float32] * 4]
    assert_same_bits(got, [expected[0], expected[1], *(x.float() for x in expected[2:])])


def test_autocast_leaves_float64_alone() -> None:
    tensors = inputs((1, 2, N, 16), 2, N, torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert attention(*tensors, plan_of(RELATIONS["window"])).dtype == torch.float64


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_changes_nothing(reentrant: bool) -> None:
    plan = plan_of(RELATIONS["window"])
    tensors = inputs((1, 2, N, 16), 2, N, torch.float32)

    def saving(*arguments: Any) -> Any:
        return checkpoint(attend_with_lse, *arguments, use_reentrant=reentrant)

    def through(attend: Any) -> list[torch.Tensor]:
        for x in tensors:
            x.grad = None
        output, lse = attend(*tensors, plan)
        (output.square().sum() + lse.sum()).backward()
        return [output, lse, *(x.grad for x in tensors if x.grad is not None)]

    assert_same_bits(through(saving), through(attend_with_lse))


def laid_out(x: torch.Tensor, how: str) -> torch.Tensor:
    """The same numbers with other strides."""
    x = x.detach()
    if how == "turned":
        return turned(x)
    if how == "every second":
        return torch.stack([x, torch.full_like(x, torch.nan)], -1).flatten(-2)[..., ::2]
    if how == "part of a larger one":
        return torch.nn.functional.pad(x, (3, 2, 5, 4, 1, 1), value=torch.nan)[:, 1:-1, 5:-4, 3:-2]
    return x.mT.contiguous().mT


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize(
    "how", ["turned", "every second", "part of a larger one", "features apart"]
)
def test_strides_of_the_inputs_do_not_matter(how: str, kv_heads: int) -> None:
    dense = np.stack([window(300, 300, 10, marks=[0]), window(300, 300, 40)])[None]
    plan = plan_of(dense)
    tensors = inputs((2, 2, 300, 16), kv_heads, 300, torch.float32)
    wishes = wishes_for(tensors[0], torch.from_numpy(dense))
    attend = partial(attend_with_lse, plan=plan)
    expected = results(attend, tensors, wishes)
    got = results(
        attend, [laid_out(x, how) for x in tensors], [laid_out(wishes[0], how), wishes[1]]
    )
    assert all(torch.equal(got[name], expected[name]) for name in got)


def test_expanded_inputs_count_as_often_as_they_are_seen() -> None:
    plan = plan_of(RELATIONS["window"])
    query, key, value = inputs((3, 2, N, 16), 1, N, torch.float64)
    one_key, one_value = (x[:1].detach().requires_grad_() for x in (key, value))
    many = [x.detach().expand(3, 2, -1, -1).clone().requires_grad_() for x in (one_key, one_value)]
    output = attention(query, *(x.expand(3, 2, -1, -1) for x in (one_key, one_value)), plan)
    expected = attention(query, *many, plan)
    torch.testing.assert_close(output, expected)
    got = torch.autograd.grad(output.sum(), (one_key, one_value))  # the sum's gradient is expanded
    for x, whole in zip(got, torch.autograd.grad(expected.sum(), many), strict=True):
        torch.testing.assert_close(x, whole.sum((0, 1), keepdim=True))


def test_only_the_gradients_asked_for_are_given() -> None:
    plan = plan_of(RELATIONS["window"])
    query, key, value = (x.detach() for x in inputs((1, 2, N, 16), 2, N, torch.float32))
    output = attention(query, key.requires_grad_(), value, plan)
    output.sum().backward()
    assert key.grad is not None
    assert query.grad is None
    assert value.grad is None


def test_nothing_is_recorded_without_gradients() -> None:
    plan = plan_of(RELATIONS["window"])
    tensors = inputs((1, 2, N, 16), 2, N, torch.float32)
    expected = attention(*tensors, plan)
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            output = attention(*tensors, plan)
        assert not output.requires_grad
        assert torch.equal(output, expected)
    plain = attention(*(x.detach() for x in tensors), plan)
    assert not plain.requires_grad


def test_second_derivative_is_refused_rather_than_wrong() -> None:
    plan = plan_of(RELATIONS["window"])
    query, key, value = inputs((1, 2, N, 16), 2, N, torch.float32)
    output = attention(query, key, value, plan)
    (first,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_functional_gradient_equals_that_of_autograd() -> None:
    plan = plan_of(RELATIONS["window"])
    query, key, value = inputs((1, 2, N, 16), 2, N, torch.float32)
    (expected,) = torch.autograd.grad(attention(query, key, value, plan).sum(), query)
    got = torch.func.grad(lambda q: attention(q, key.detach(), value.detach(), plan).sum())(
        query.detach()
    )
    assert torch.equal(got, expected)


def test_vmap_is_refused_rather_than_wrong() -> None:
    plan = plan_of(RELATIONS["window"])
    query, key, value = (x.detach()[None] for x in inputs((1, 2, N, 16), 2, N, torch.float32))
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(lambda q, k, v: attention(q, k, v, plan))(query, key, value)


def test_inputs_are_left_as_they_are() -> None:
    plan = plan_of(RELATIONS["window"])
    tensors = inputs((1, 2, N, 16), 2, N, torch.float32)
    before = [x.detach().clone() for x in tensors]
    held = [x.clone() for x in plan.operands("cpu").tensors]
    attention(*tensors, plan).sum().backward()
    assert_same_bits([x.detach() for x in tensors], before)
    assert_same_bits(list(plan.operands("cpu").tensors), held)


def test_one_plan_serves_many_threads() -> None:
    dense = np.stack([window(700, 700, 40, marks=[0]), window(700, 700, 5, causal=True)])[None]
    batches = [inputs((1, 2, 700, 16), 1, 700, torch.float32, seed) for seed in range(6)]
    plan = plan_of(dense)
    expected = [gradients(attend_with_lse, x, plan) for x in batches]
    fresh = plan_of(dense)  # prepared by whoever comes first
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(partial(gradients, attend_with_lse, plan=fresh), batches))
    for x, y in zip(itertools.chain(*got), itertools.chain(*expected), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


def test_layout_is_cut_once_for_each_pass_and_forgotten_with_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuts: list[object] = []
    cut = _cpu_pieces.cut

    def counting(*arguments: Any, **options: Any) -> Any:
        cuts.append(arguments)
        return cut(*arguments, **options)

    monkeypatch.setattr(_cpu_pieces, "cut", counting)
    gc.collect()
    held = len(_cpu_plan._cache)
    plan = plan_of(RELATIONS["random"])
    tensors = inputs((1, 2, N, 16), 1, N, torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(attend_with_lse, fullgraph=True, backend="aot_eager")
    for attend in (attend_with_lse, attend_with_lse, compiled, compiled):
        gradients(attend, tensors, plan)
    assert len(cuts) == 2
    assert len(_cpu_plan._cache) == held + 1
    del plan, attend, compiled
    torch._dynamo.reset()
    gc.collect()
    assert len(_cpu_plan._cache) == held
