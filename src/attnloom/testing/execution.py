"""Plans under test: tensors that fit, and backends against the definition in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnloom.runtime import backends
from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

_ROUNDING = {torch.float64: 5000, torch.float32: 64, torch.bfloat16: 8, torch.float16: 8}
"""Roundings that a result of size 1 may be off by, beside twice the error of the reference."""

_NAMES = ("output", "lse", "the gradient of query", "the gradient of key", "the gradient of value")


@dataclass(frozen=True, eq=False)
class Tensors:
    """Query, key and value, and how they are made."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    made: str

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.query, self.key, self.value))

    def __repr__(self) -> str:
        return self.made

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How notebooks and Hypothesis show it: not field by field."""
        printer.text(repr(self))


def random_qkv(
    plan: Plan,
    *,
    seed: int = 0,
    batch: int | None = None,
    num_kv_heads: int | None = None,
    head_dim: int = 16,
    dtype: torch.dtype = torch.float32,
) -> Tensors:
    """Normally distributed tensors that fit a plan, the same for the same arguments.

    Args:
        plan: the plan.
        seed: which tensors.
        batch: batch elements; those of the plan, or 1, when not given.
        num_kv_heads: heads of key and value; as many as the plan has when not given.
        head_dim: the last dimension.
        dtype: of all three.
    """
    size = batch or plan.batch_size or 1
    kv_heads = num_kv_heads or plan.num_heads
    generator = torch.Generator().manual_seed(seed)
    shapes = [(size, plan.num_heads, plan.query_len, head_dim)]
    shapes += [(size, kv_heads, plan.kv_len, head_dim)] * 2
    query, key, value = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(plan.device)
        for shape in shapes
    )
    made = (
        f"random_qkv(plan, seed={seed}, batch={size}, num_kv_heads={kv_heads}, "
        f"head_dim={head_dim}, dtype={dtype})"
    )
    return Tensors(query, key, value, made)


def assert_executes_like_reference(
    plan: Plan,
    qkv: Tensors | None = None,
    *,
    backend: str = "auto",
    backward: bool = True,
    scale: float | None = None,
) -> None:
    """A backend gives what the definition gives: output, lse, and the gradients.

    The definition runs in float64 on the same numbers. A result may be off by twice what the
    definition itself is off in the dtype of the tensors, and some roundings.

    Args:
        plan: the plan.
        qkv: query, key and value, or what `random_qkv` makes.
        backend: which backend is tested.
        backward: whether to test the gradients.
        scale: factor of the scores, as in `attnloom.attention`.

    Raises:
        AssertionError: a result differs; the message names the head and query where most.
    """
    tensors = tuple(qkv if qkv is not None else random_qkv(plan))
    name = backends.choose(plan.device.type) if backend == "auto" else backend
    got = _results(plan, tensors, name, backward, scale)
    exact = _results(plan, [x.double() for x in tensors], "reference", backward, scale)
    usual = _results(plan, tensors, "reference", backward, scale)
    weight = 1 + max(float(x.abs().max()) for x in tensors) ** 2
    for what, x, y, z in zip(_NAMES, got, exact, usual, strict=False):
        if (x.isneginf() != y.isneginf()).any() or x.isnan().any():
            at = ((x.isneginf() != y.isneginf()) | x.isnan()).nonzero()[0].tolist()
            raise AssertionError(
                f"{name}: {what} at {_where(at)} is {x[tuple(at)]:.6g}, not {y[tuple(at)]:.6g}"
            )
        error, usual_error = ((one.double() - y).nan_to_num(0, 0, 0).abs() for one in (x, z))
        largest = float(y.nan_to_num(0, 0, 0).abs().max()) if y.numel() else 0.0
        slack = _ROUNDING[x.dtype] * torch.finfo(x.dtype).eps * (weight + largest)
        budget = 2 * float(usual_error.max()) + slack
        if float(error.max()) > budget:
            at = (error == error.max()).nonzero()[0].tolist()
            raise AssertionError(
                f"{name}: {what} at {_where(at)} is {x[tuple(at)]:.6g}, not {y[tuple(at)]:.6g} "
                f"(off by {float(error.max()):.3g}, allowed are {budget:.3g})"
            )


def _results(
    plan: Plan, tensors: Sequence[torch.Tensor], backend: str, backward: bool, scale: float | None
) -> list[torch.Tensor]:
    """Output and lse, and the gradients of both together for fixed weights."""
    query, key, value = (x.detach().requires_grad_(backward) for x in tensors)
    output, lse = attention(query, key, value, plan, scale=scale, return_lse=True, backend=backend)
    found = [output.detach(), lse.detach()]
    if backward:
        generator = torch.Generator().manual_seed(1)
        wishes = [
            torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device).to(x.dtype)
            for x in (output, lse)
        ]
        wishes[1] = wishes[1].masked_fill(lse.detach().isneginf(), 0)
        found += torch.autograd.grad((output, lse), (query, key, value), wishes)
    return found


def _where(at: Sequence[int]) -> str:
    names = ("batch element", "head", "position", "component")
    return ", ".join(f"{name} {index}" for name, index in zip(names, at, strict=False))
