"""Checks of the arguments of `attention`: one table; a message names argument, wish and fact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from attnloom.runtime import backends
from attnloom.runtime.plan import Plan


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call, before anything is known about them."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    plan: Plan
    scale: float | None
    backend: str
    softcap: float | None = None
    alibi_slopes: torch.Tensor | None = None
    sinks: torch.Tensor | None = None
    key_lengths: torch.Tensor | None = None
    local_len: int | None = None
    """Of queries and keys, where a process has a part of those of the plan."""


class Check(NamedTuple):
    """A condition on the arguments: `fault` gives the message when it does not hold."""

    error: type[Exception]
    fault: Callable[[Arguments], str | None]


def check_arguments(arguments: Arguments) -> None:
    """Raise for the first check that fails, before any work is done.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: an argument does not fit the others.
    """
    for check in CHECKS:
        message = check.fault(arguments)
        if message is not None:
            raise check.error(message)


def resolve_backend(query: torch.Tensor, backend: str) -> str:
    """The backend that will run: the one asked for, or the one that `"auto"` stands for."""
    return backends.choose(query.device.type) if backend == "auto" else backend


def dtype_to_run(x: torch.Tensor) -> torch.dtype:
    """The dtype in which a tensor takes part: its own, or the one to which autocast casts it."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x.dtype
    casts = x.is_floating_point() and x.dtype != torch.float64
    return torch.get_autocast_dtype(device) if casts else x.dtype


def _tensors(a: Arguments) -> tuple[tuple[str, torch.Tensor], ...]:
    return (("query", a.query), ("key", a.key), ("value", a.value))


def _other_type(name: str, x: object, types: type | tuple[type, ...], wanted: str) -> str | None:
    # A bool counts as an int in Python, but is none of the things wanted here.
    fits = isinstance(x, types) and not isinstance(x, bool)
    return None if fits else f"{name} must be {wanted}, got {type(x).__name__}"


def _not_tensor(a: Arguments) -> str | None:
    for name, x in _tensors(a):
        if message := _other_type(name, x, torch.Tensor, "a torch.Tensor"):
            return message
    return None


def _not_plan(a: Arguments) -> str | None:
    return _other_type("plan", a.plan, Plan, "an attnloom Plan")


def _not_number(a: Arguments) -> str | None:
    for name, x in (("scale", a.scale), ("softcap", a.softcap)):
        if message := _other_type(name, x, (int, float, type(None)), "a number or None"):
            return message
    return None


def _not_finite(a: Arguments) -> str | None:
    for name, x in (("scale", a.scale), ("softcap", a.softcap)):
        if x is not None and not math.isfinite(x):
            return f"{name} must be finite, got {x}"
    return None


def _not_positive(a: Arguments) -> str | None:
    if a.softcap is not None and a.softcap <= 0:
        return f"softcap must be above 0, or None for no cap, got {a.softcap}"
    return None


def _modifiers(a: Arguments) -> tuple[tuple[str, torch.Tensor], ...]:
    given = ("alibi_slopes", a.alibi_slopes), ("sinks", a.sinks), ("key_lengths", a.key_lengths)
    return tuple((name, x) for name, x in given if x is not None)


def _modifier_not_tensor(a: Arguments) -> str | None:
    for name, x in _modifiers(a):
        if message := _other_type(name, x, torch.Tensor, "a torch.Tensor or None"):
            return message
    return None


def _modifier_dtype(a: Arguments) -> str | None:
    for name, x in _modifiers(a):
        if name == "key_lengths":
            if x.dtype not in (torch.int32, torch.int64):
                return f"key_lengths must be int32 or int64, got {x.dtype}"
        elif not x.dtype.is_floating_point:
            return f"{name} must have a floating-point dtype, got {x.dtype}"
    return None


def _modifier_shape(a: Arguments) -> str | None:
    batch, heads = a.query.shape[:2]
    for name, x in _modifiers(a):
        word, wanted = ("batch", batch) if name == "key_lengths" else ("heads", heads)
        if tuple(x.shape) != (wanted,):
            return f"{name} must have shape ({word},), ({wanted},), got {tuple(x.shape)}"
    return None


def _modifier_elsewhere(a: Arguments) -> str | None:
    for name, x in _modifiers(a):
        if x.device != a.query.device:
            return f"{name} must be on the device of query, {a.query.device}, got {x.device}"
    return None


def _slopes_want_gradients(a: Arguments) -> str | None:
    if a.alibi_slopes is not None and a.alibi_slopes.requires_grad:
        return "alibi_slopes must not require gradients, for they get none"
    return None


def _not_backend_name(a: Arguments) -> str | None:
    return _other_type("backend", a.backend, str, "a string")


def _wrong_rank(a: Arguments) -> str | None:
    for name, x in _tensors(a):
        if x.dim() != 4:
            return f"{name} must have shape (batch, heads, length, head_dim), got {tuple(x.shape)}"
    return None


def _is_nested(a: Arguments) -> str | None:
    for name, x in _tensors(a):
        if x.is_nested:
            return f"{name} must be a plain tensor, got a nested one"
    return None


def _wrong_batch(a: Arguments) -> str | None:
    batch = a.query.shape[0]
    for name, x in _tensors(a):
        if x.shape[0] != batch:
            return f"{name} must have the batch of query, {batch}, got {x.shape[0]}"
    return None


def _wrong_head_dim(a: Arguments) -> str | None:
    head_dim = a.query.shape[3]
    if head_dim < 1:
        return f"query must have a head_dim of at least 1, got {head_dim}"
    for name, x in _tensors(a):
        if x.shape[3] != head_dim:
            return f"{name} must have the head_dim of query, {head_dim}, got {x.shape[3]}"
    return None


def _wrong_heads(a: Arguments) -> str | None:
    heads, kv_heads, v_heads = a.query.shape[1], a.key.shape[1], a.value.shape[1]
    if heads != a.plan.num_heads:
        return f"query must have the {a.plan.num_heads} heads of the plan, got {heads}"
    if kv_heads < 1 or heads % kv_heads:
        return f"key must have a number of heads that divides the {heads} of query, got {kv_heads}"
    if v_heads != kv_heads:
        return f"value must have as many heads as key, {kv_heads}, got {v_heads}"
    return None


def _wrong_length(a: Arguments) -> str | None:
    memory = f" ({a.plan.memory} memory tokens included)" if a.plan.memory else ""
    if a.local_len is not None:
        for name, x in _tensors(a):
            if x.shape[2] != a.local_len:
                return f"{name} must have the {a.local_len} positions here, got {x.shape[2]}"
        return None
    expected = (a.plan.query_len, a.plan.kv_len, a.plan.kv_len)
    for (name, x), length in zip(_tensors(a), expected, strict=True):
        if x.shape[2] != length:
            return f"{name} must have the length of the plan, {length}{memory}, got {x.shape[2]}"
    return None


def _wrong_plan_batch(a: Arguments) -> str | None:
    batch, wanted = a.query.shape[0], a.plan.batch_size
    if wanted is not None and batch != wanted:
        return f"query must have the batch that the plan is made for, {wanted}, got {batch}"
    return None


def _mixed_dtypes(a: Arguments) -> str | None:
    dtype = dtype_to_run(a.query)
    for name, x in _tensors(a):
        if dtype_to_run(x) != dtype:
            return f"{name} must have the dtype of query, {dtype}, got {x.dtype}"
    return None


def _mixed_devices(a: Arguments) -> str | None:
    for name, x in _tensors(a):
        if x.device != a.query.device:
            return f"{name} must be on the device of query, {a.query.device}, got {x.device}"
    return None


def _plan_elsewhere(a: Arguments) -> str | None:
    if a.plan.device != a.query.device:
        return (
            f"plan must be on the device of query, {a.query.device}, got {a.plan.device}; "
            f"move it once with plan.to('{a.query.device}')"
        )
    return None


def _not_floating(a: Arguments) -> str | None:
    if not a.query.dtype.is_floating_point:
        return f"query must have a floating-point dtype, got {a.query.dtype}"
    return None


def _backend_refuses(a: Arguments) -> str | None:
    name = resolve_backend(a.query, a.backend)
    dtype = str(dtype_to_run(a.query)).removeprefix("torch.")
    return backends.problem(name, a.query.device.type, dtype, a.query.shape[3])


CHECKS: tuple[Check, ...] = (
    Check(TypeError, _not_tensor),
    Check(TypeError, _not_plan),
    Check(TypeError, _not_number),
    Check(ValueError, _not_finite),
    Check(ValueError, _not_positive),
    Check(TypeError, _modifier_not_tensor),
    Check(TypeError, _not_backend_name),
    Check(TypeError, _is_nested),
    Check(ValueError, _wrong_rank),
    Check(TypeError, _not_floating),
    Check(TypeError, _mixed_dtypes),
    Check(ValueError, _mixed_devices),
    Check(ValueError, _wrong_batch),
    Check(ValueError, _wrong_head_dim),
    Check(ValueError, _wrong_heads),
    Check(ValueError, _wrong_length),
    Check(ValueError, _wrong_plan_batch),
    Check(TypeError, _modifier_dtype),
    Check(ValueError, _modifier_shape),
    Check(ValueError, _modifier_elsewhere),
    Check(ValueError, _slopes_want_gradients),
    Check(ValueError, _backend_refuses),
    Check(ValueError, _plan_elsewhere),
)
"""Every condition, in the order in which they are checked: each may rely on the ones before."""
