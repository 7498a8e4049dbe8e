"""The kernels among the other parts of PyTorch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from kernel_helpers import DEVICE, by_kernels, run, same_bits
from runtime_helpers import inputs, plan_of, relation, window, wishes_for
from torch.utils.checkpoint import checkpoint

from attnloom.runtime import backends
from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

N = 50
DENSE = np.stack([window(N, N, 7, marks=[0]), window(N, N, 3, causal=True)])[None]


def plan() -> Plan:
    return plan_of(DENSE, 64, 32).to(DEVICE)


def tensors(dtype: torch.dtype = torch.float32, kv_heads: int = 1) -> list[torch.Tensor]:
    found = inputs((1, 2, N, 16), kv_heads, N, dtype)
    return [x.detach().to(DEVICE).requires_grad_() for x in found]


def test_operators_pass_the_checks_of_pytorch() -> None:
    own = [x.detach() for x in tensors()]
    tiles, sizes = plan().operands("triton")
    tail = (list(tiles), plan().layout_of_head, list(sizes), 0.25, "triton")
    sinks = torch.tensor([0.5, -1.0], device=DEVICE)
    arguments = (*own, *tail, 20.0, None, sinks, None)
    torch.library.opcheck(torch.ops.attnloom.attention.default, arguments)
    output, lse = torch.ops.attnloom.attention.default(*arguments)
    gradients = torch.randn_like(output), torch.randn_like(lse)
    more = (*gradients, *own, output, lse, *tail, 20.0, None, sinks, None)
    torch.library.opcheck(torch.ops.attnloom.attention_backward.default, more)


def gradients(attend: object, own: list[torch.Tensor], of: Plan) -> list[torch.Tensor]:
    output, lse = attend(*own, of)  # type: ignore[operator]
    loss = output.float().square().sum() + lse.sum()
    return [output, lse, *torch.autograd.grad(loss, own)]


def test_compiled_function_gives_the_same_bits_in_one_graph() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(by_kernels, fullgraph=True, backend="aot_eager")
    of = plan()
    of.operands("triton")  # made with the plan where this is the automatic backend
    expected = gradients(by_kernels, tensors(), of)
    got = gradients(compiled, tensors(), of)
    assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))


def test_two_runs_give_the_same_bits() -> None:
    dense = relation(["random", "globals"], 60, 60, np.random.default_rng(0))[None, None]
    of = plan_of(dense.repeat(2, 1), 32, 32)
    own = inputs((1, 2, 60, 16), 1, 60, torch.float16)
    wishes = wishes_for(own[0], torch.from_numpy(dense))
    assert same_bits(run(of, own, wishes), run(of, own, wishes))


@pytest.mark.parametrize("how", ["heads behind", "features apart", "one for all heads"])
def test_strides_do_not_matter(how: str) -> None:
    own = [x.detach() for x in tensors()]
    if how == "heads behind":
        others = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in own]
    elif how == "features apart":
        others = [x.mT.contiguous().mT for x in own]
    else:
        others = [own[0][:, :1].expand(-1, 2, -1, -1), *own[1:]]
        own[0] = others[0].contiguous()
    attend = partial(by_kernels, plan=plan())
    with torch.no_grad():
        for x, y in zip(attend(*others), attend(*own), strict=True):
            assert torch.equal(x, y)


def test_gradient_that_is_expanded_is_read_rightly() -> None:
    own = tensors()
    of = plan()
    got = torch.autograd.grad(attention(*own, of, backend="triton").sum(), own)
    ones = torch.ones_like(own[0])
    expected = torch.autograd.grad(attention(*own, of, backend="triton"), own, ones)
    assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))


def test_checkpointed_and_autocast_gradients_are_the_same() -> None:
    of = plan()
    expected = gradients(by_kernels, tensors(), of)
    saving = partial(checkpoint, by_kernels, use_reentrant=False)
    assert all(
        torch.equal(x, y) for x, y in zip(gradients(saving, tensors(), of), expected, strict=True)
    )
    with torch.autocast(DEVICE, dtype=torch.bfloat16), torch.no_grad():
        output = attention(*tensors(), of, backend="triton")
    half = [x.detach().bfloat16() for x in tensors()]
    assert torch.equal(output, attention(*half, of, backend="triton"))


def test_empty_batch_gives_empty_results() -> None:
    own = [x.detach()[:0].requires_grad_() for x in tensors()]
    output, lse = by_kernels(*own, plan())
    assert (output.shape, lse.shape) == ((0, 2, N, 16), (0, 2, N))
    assert [x.shape for x in torch.autograd.grad(output.sum(), own)] == [x.shape for x in own]


def test_what_the_kernels_do_not_take_is_refused() -> None:
    assert "float64" in str(backends.problem("triton", DEVICE, "float64", 64))
    assert "at most 256, got 320" in str(backends.problem("triton", DEVICE, "float16", 320))
    assert backends.problem("triton", DEVICE, "float16", 256) is None
    assert "CUDA tensors" in str(backends.problem("triton", "meta", "float16", 64))


def test_automatic_backend_of_cpu_tensors_is_never_the_interpreter() -> None:
    assert backends.choose("cpu") == "cpu"
    assert backends.choose("cuda") == "triton"
