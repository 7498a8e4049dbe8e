"""`attention`: the public function, and the operators through which a backend is called.

The operators take only tensors and scalars and always return `(output, lse)`, so that they can be
traced, compiled and checked without knowing anything about plans.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast, overload

import torch
from torch.autograd.function import once_differentiable

from attnloom.runtime import backends
from attnloom.runtime.checks import Arguments, check_arguments, dtype_to_run, resolve_backend
from attnloom.runtime.plan import Plan

_PLAN = "Tensor[] tiles, Tensor layout_of_head, int[] sizes, float scale, str backend"

_library = cast(Any, torch.library).Library("attnloom", "DEF")
_library.define(f"attention(Tensor query, Tensor key, Tensor value, {_PLAN}) -> (Tensor, Tensor)")
_library.define(
    "attention_backward(Tensor d_output, Tensor d_lse, Tensor query, Tensor key, Tensor value, "
    f"Tensor output, Tensor lse, {_PLAN}) -> (Tensor, Tensor, Tensor)"
)


@overload
def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    *,
    scale: float | None = ...,
    return_lse: Literal[False] = ...,
    backend: str = ...,
) -> torch.Tensor: ...


@overload
def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    *,
    scale: float | None = ...,
    return_lse: Literal[True],
    backend: str = ...,
) -> tuple[torch.Tensor, torch.Tensor]: ...


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    *,
    scale: float | None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention over exactly the pairs of a plan.

    A query that reads nothing gives output 0 and `lse = -inf`, with zero gradients. What a key or
    a value holds makes no difference to a query that does not read it, not even NaN. Two runs on
    one machine give the same bits, backward too. Differentiable once, in `query`, `key` and
    `value`, through the output and through the lse; any number of times with the backend
    `"reference"`. Under autocast the inputs are cast. One graph under `torch.compile`, except with
    `"reference"`; `torch.func.vmap` is not supported.

    Args:
        query: `(batch, heads, query_len, head_dim)`; the heads and the length are the plan's.
        key: `(batch, kv_heads, kv_len, head_dim)`; `kv_heads` divides `heads`, and query head `h`
            reads key head `h // (heads // kv_heads)`.
        value: like `key`.
        plan: which query reads which key; on the device of the tensors.
        scale: factor of the scores; `1 / sqrt(head_dim)` when not given.
        return_lse: also return the natural logarithm of each query's sum of exponentials.
        backend: `"cpu"` or `"reference"` (the definition, slow); `"auto"` takes the fast one for
            the device. A backend asked for by name is the one that runs, or there is an error.

    Returns:
        The output, of the shape and dtype of `query`, or `(output, lse)` with
        `lse` in float32 (float64 for float64 inputs), `(batch, heads, query_len)`.

    Raises:
        TypeError, ValueError: an argument is wrong; raised before any work.
    """
    check_arguments(Arguments(query, key, value, plan, scale, backend))
    name = resolve_backend(query, backend)
    query, key, value = (x.to(dtype_to_run(x)) for x in (query, key, value))
    # A graph is not traced through a function that is given one tensor twice.
    key = key.view_as(key) if key is query else key
    value = value.view_as(value) if value is query or value is key else value
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    if name == "reference":
        output, lse = _attend_reference(query, key, value, plan, factor)
    else:
        tensors, sizes = plan.operands(name)
        output, lse = _apply(query, key, value, factor, name, sizes, plan.layout_of_head, *tensors)
    return (output, lse) if return_lse else output


def _attend_reference(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Plan, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.autocast(query.device.type, enabled=False):
        return backends.load("reference").attend(query, key, value, plan, scale)


# It loops over lists whose lengths depend on the data of the plan: nothing for a graph.
_attend_reference = cast(Any, torch.compiler).disable(_attend_reference)


class _Attention(torch.autograd.Function):
    """Joins the two operators; everything that a tracer must see is an argument."""

    @staticmethod
    def forward(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        backend: str,
        sizes: tuple[int, ...],
        layout_of_head: torch.Tensor,
        *tiles: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return cast(
            tuple[torch.Tensor, torch.Tensor],
            _forward_op(
                query, key, value, list(tiles), layout_of_head, list(sizes), scale, backend
            ),
        )

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        query, key, value, ctx.scale, ctx.backend, ctx.sizes, layout_of_head, *tiles = inputs
        ctx.save_for_backward(query, key, value, *output, layout_of_head, *tiles)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: torch.Tensor, d_lse: torch.Tensor) -> tuple[Any, ...]:
        query, key, value, output, lse, layout_of_head, *tiles = ctx.saved_tensors
        d_query, d_key, d_value = _backward_op(
            d_output, d_lse, query, key, value, output, lse,
            tiles, layout_of_head, list(ctx.sizes), ctx.scale, ctx.backend,
        )  # fmt: skip
        return d_query, d_key, d_value, *(None,) * (4 + len(tiles))


_apply = cast(Any, _Attention).apply


def _forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tiles: list[torch.Tensor],
    layout_of_head: torch.Tensor,
    sizes: list[int],
    scale: float,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    if not len(query):
        return _forward_fake(query, key, value)
    # The operator has its dtype from its arguments; autocast must not change it underway.
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        return backends.load(backend).forward(
            query, key, value, tiles, layout_of_head, sizes, scale
        )


def _forward_fake(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    return query.new_empty(query.shape), query.new_empty(query.shape[:-1], dtype=exact)


def _backward(
    d_output: torch.Tensor,
    d_lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    tiles: list[torch.Tensor],
    layout_of_head: torch.Tensor,
    sizes: list[int],
    scale: float,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if not len(query):
        return _backward_fake(d_output, d_lse, query, key, value)
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        return backends.load(backend).backward(
            d_output, d_lse, query, key, value, output, lse,
            tiles, layout_of_head, sizes, scale,
        )  # fmt: skip


def _backward_fake(
    d_output: torch.Tensor,
    d_lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


for _name, _kernel, _fake in (
    ("attention", _forward, _forward_fake),
    ("attention_backward", _backward, _backward_fake),
):
    _library.impl(_name, _kernel, "CPU")
    _library.impl(_name, _kernel, "CUDA")
    torch.library.register_fake(f"attnloom::{_name}", _fake, lib=_library)

# Looked up once: a packet would search its overloads at every call.
_forward_op = cast(Any, torch.ops.attnloom.attention.default)
_backward_op = cast(Any, torch.ops.attnloom.attention_backward.default)
