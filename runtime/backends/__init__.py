"""The backends: one file each, found by its name.

A backend file offers `DTYPES`, the dtypes that it takes; perhaps `MOST_HEAD_DIM`;
`refusal(device_type)`, the reason why it cannot run on tensors of that device, or `None`; and
either

* `attend(query, key, value, plan, modifiers) -> (output, lse)`, made of differentiable operations,
  or
* `operands(layouts, layout_of_head) -> Operands`, a plan as tensors and integers, and, which run
  inside one opaque operator, `forward(query, key, value, tensors, layout_of_head, sizes,
  modifiers) -> (output, lse)` and `backward(d_output, d_lse, query, key, value, output, lse,
  tensors, layout_of_head, sizes, modifiers) -> (d_query, d_key, d_value)`.

What `modifiers` do is in `attnloom.runtime.modifiers`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch


class Backend(Protocol):
    """What every backend file offers; see the module docstring for the rest."""

    DTYPES: tuple[torch.dtype, ...]
    refusal: Callable[[str], str | None]
    attend: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    operands: Callable[..., Any]
    forward: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    backward: Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


NAMES: tuple[str, ...] = tuple(
    sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
)
"""The backends there are, by file name; importing one may still fail, see `refusal`."""

_AUTOMATIC = {"cpu": "cpu", "cuda": "triton"}


def load(name: str) -> Backend:
    """The backend of that name, imported now."""
    return cast(Backend, cast(Any, importlib.import_module(f"{__name__}.{name}")))


def choose(device_type: str) -> str:
    """The backend that `"auto"` stands for, on tensors of a device; perhaps one that is absent."""
    return _AUTOMATIC.get(device_type, "reference")


def is_operator(name: str) -> bool:
    """Whether there is such a backend, and it runs inside an operator."""
    return name in NAMES and hasattr(load(name), "operands")


def problem(name: str, device_type: str, dtype_name: str, head_dim: int) -> str | None:
    """Why a backend cannot take tensors of this device, dtype and size, or `None` when it can."""
    if name not in NAMES:
        return f"backend must be one of {', '.join(('auto', *NAMES))}, got '{name}'"
    backend = load(name)
    if reason := backend.refusal(device_type):
        return reason
    names = [str(dtype).removeprefix("torch.") for dtype in backend.DTYPES]
    if dtype_name not in names:
        return f"backend '{name}' takes {', '.join(names)}, got {dtype_name}"
    most = getattr(backend, "MOST_HEAD_DIM", head_dim)
    if head_dim > most:
        return f"backend '{name}' takes a head_dim of at most {most}, got {head_dim}"
    return None


# Asked while a graph is traced: the answer depends on nothing else than the constant arguments.
problem = cast(Any, torch.compiler).assume_constant_result(problem)
