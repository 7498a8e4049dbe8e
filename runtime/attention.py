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
from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.plan import Plan

_PLAN = (
    "Tensor[] tiles, Tensor layout_of_head, int[] sizes, float scale, str backend, "
    "float softcap=0.0, Tensor? alibi_slopes=None, Tensor? sinks=None, Tensor? key_lengths=None"
)

_library = cast(Any, torch.library).Library("attnloom", "DEF")
_library.define(f"attention(Tensor query, Tensor key, Tensor value, {_PLAN}) -> (Tensor, Tensor)")
_library.define(
    "attention_backward(Tensor d_output, Tensor d_lse, Tensor query, Tensor key, Tensor value, "
    f"Tensor output, Tensor lse, {_PLAN}) -> (Tensor, Tensor, Tensor, Tensor)"
)


@overload
def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    *,
    scale: float | None = ...,
    softcap: float | None = ...,
    alibi_slopes: torch.Tensor | None = ...,
    sinks: torch.Tensor | None = ...,
    key_lengths: torch.Tensor | None = ...,
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
    softcap: float | None = ...,
    alibi_slopes: torch.Tensor | None = ...,
    sinks: torch.Tensor | None = ...,
    key_lengths: torch.Tensor | None = ...,
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
    softcap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    key_lengths: torch.Tensor | None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention over exactly the pairs of a plan.

    A query that reads nothing gives output 0 and `lse = -inf`, with zero gradients. What a key or
    a value holds makes no difference to a query that does not read it, not even NaN. Two runs on
    one machine give the same bits, backward too. Differentiable once, in `query`, `key`, `value`
    and `sinks`, through the output and through the lse; any number of times with the backend
    `"reference"`. Under autocast the inputs are cast. One graph under `torch.compile`, except with
    `"reference"`; `torch.func.vmap` is not supported.

    Args:
        query: `(batch, heads, query_len, head_dim)`; the heads and the length are the plan's.
        key: `(batch, kv_heads, kv_len, head_dim)`; `kv_heads` divides `heads`, and query head `h`
            reads key head `h // (heads // kv_heads)`.
        value: like `key`.
        plan: which query reads which key; on the device of the tensors.
        scale: factor of the scores; `1 / sqrt(head_dim)` when not given.
        softcap: a score `s` becomes `softcap * tanh(s / softcap)`, after the scale.
        alibi_slopes: `(heads,)`, without gradients: `alibi_slopes[h] * |i - j|` is subtracted from
            the score of query `i` and key `j`, after the softcap; memory tokens count as positions.
        sinks: `(heads,)`: `exp(sinks[h])` joins each query's sum of exponentials, and so the lse,
            as a key whose value is 0 would. A query that reads nothing then has an lse of
            `sinks[h]`.
        key_lengths: integers `(batch,)`: keys from there on are not read, as if the plan did not
            have them; memory tokens count.
        return_lse: also return the natural logarithm of each query's sum of exponentials.
        backend: `"cpu"`, `"triton"` (for GPUs) or `"reference"` (the definition, slow); `"auto"`
            takes the fast one for the device. On the CPU, softcap, alibi_slopes and key_lengths are
            worked out exactly, but slower. A backend asked for by name is the one that runs, or
            there is an error.

    Returns:
        The output, of the shape and dtype of `query`, or `(output, lse)` with
        `lse` in float32 (float64 for float64 inputs), `(batch, heads, query_len)`.

    Raises:
        TypeError, ValueError: an argument is wrong; raised before any work.
    """
    check_arguments(
        Arguments(
            query, key, value, plan, scale, backend, softcap, alibi_slopes, sinks, key_lengths
        )
    )
    name = resolve_backend(query, backend)
    query, key, value = (x.to(dtype_to_run(x)) for x in (query, key, value))
    # A graph is not traced through a function that is given one tensor twice.
    key = key.view_as(key) if key is query else key
    value = value.view_as(value) if value is query or value is key else value
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    modifiers = Modifiers(
        1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale),
        0.0 if softcap is None else float(softcap),
        None if alibi_slopes is None else alibi_slopes.to(exact),
        None if sinks is None else sinks.to(exact),
        None if key_lengths is None else key_lengths.to(torch.int32),
    )
    if name == "reference":
        output, lse = _attend_reference(query, key, value, plan, modifiers)
    else:
        tensors, sizes = plan.operands(name)
        output, lse = _apply(
            query, key, value, modifiers.sinks, modifiers.alibi_slopes, modifiers.key_lengths,
            modifiers.scale, modifiers.softcap, name, sizes, plan.layout_of_head, *tensors,
        )  # fmt: skip
    return (output, lse) if return_lse else output


def _attend_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.autocast(query.device.type, enabled=False):
        return backends.load("reference").attend(query, key, value, plan, modifiers)


# It loops over lists whose lengths depend on the data of the plan: nothing for a graph.
_attend_reference = cast(Any, torch.compiler).disable(_attend_reference)


class _Attention(torch.autograd.Function):
    """Joins the two operators; everything that a tracer must see is an argument."""

    @staticmethod
    def forward(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        sinks: torch.Tensor | None,
        alibi_slopes: torch.Tensor | None,
        key_lengths: torch.Tensor | None,
        scale: float,
        softcap: float,
        backend: str,
        sizes: tuple[int, ...],
        layout_of_head: torch.Tensor,
        *tiles: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return cast(
            tuple[torch.Tensor, torch.Tensor],
            _forward_op(
                query, key, value, list(tiles), layout_of_head, list(sizes), scale, backend,
                softcap, alibi_slopes, sinks, key_lengths,
            ),
        )  # fmt: skip

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        query, key, value, *modifiers, ctx.scale, ctx.softcap, ctx.backend, ctx.sizes = inputs[:10]
        ctx.save_for_backward(query, key, value, *output, *modifiers, *inputs[10:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: torch.Tensor, d_lse: torch.Tensor) -> tuple[Any, ...]:
        query, key, value, output, lse, *others = ctx.saved_tensors
        sinks, alibi_slopes, key_lengths, layout_of_head, *tiles = others
        d_query, d_key, d_value, d_sinks = _backward_op(
            d_output, d_lse, query, key, value, output, lse,
            tiles, layout_of_head, list(ctx.sizes), ctx.scale, ctx.backend,
            ctx.softcap, alibi_slopes, sinks, key_lengths,
        )  # fmt: skip
        d_sinks = None if sinks is None else d_sinks
        return d_query, d_key, d_value, d_sinks, *(None,) * (7 + len(tiles))


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
    softcap: float = 0.0,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    key_lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if not len(query):
        return _forward_fake(query, key, value)
    modifiers = Modifiers(scale, softcap, alibi_slopes, sinks, key_lengths)
    # The operator has its dtype from its arguments; autocast must not change it underway.
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        return backends.load(backend).forward(
            query, key, value, tiles, layout_of_head, sizes, modifiers
        )


def _forward_fake(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
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
    softcap: float = 0.0,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    key_lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    if not len(query):
        d_sinks = query.new_zeros(0) if sinks is None else torch.zeros_like(sinks)
        d_query, d_key, d_value = (x.new_empty(x.shape) for x in (query, key, value))
        return d_query, d_key, d_value, d_sinks
    modifiers = Modifiers(scale, softcap, alibi_slopes, sinks, key_lengths)
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        gradients = backends.load(backend).backward(
            d_output, d_lse, query, key, value, output, lse,
            tiles, layout_of_head, sizes, modifiers,
        )  # fmt: skip
        if sinks is None:
            return *gradients, query.new_zeros(0)
        return *gradients, _sink_gradients(d_output, d_lse, output, lse, sinks)


def _sink_gradients(
    d_output: torch.Tensor,
    d_lse: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    sinks: torch.Tensor,
) -> torch.Tensor:
    """A sink is a key with the value 0: `d_sink = -sum_i p_i delta_i` with its weights `p`."""
    delta = (d_output.to(lse.dtype) * output.to(lse.dtype)).sum(-1) - d_lse
    weights = torch.exp(sinks[:, None] - lse).masked_fill(lse == -torch.inf, 0.0)
    return -(weights * delta).sum((0, 2)).to(sinks.dtype)


def _backward_fake(
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
    softcap: float = 0.0,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    key_lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        query.new_empty(query.shape),
        key.new_empty(key.shape),
        value.new_empty(value.shape),
        query.new_empty(0) if sinks is None else sinks.new_empty(sinks.shape),
    )


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
