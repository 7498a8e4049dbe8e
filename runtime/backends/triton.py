"""Execution by Triton kernels, on a GPU; see `attnloom.runtime.kernels` and `docs/kernels.md`.

With `TRITON_INTERPRET=1` in the environment the kernels run, slowly, on CPU tensors too. Triton is
imported when the first call comes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

import torch

from attnloom.compiler.parts import HeadLayout
from attnloom.runtime.executable import Executable
from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.plan import Operands

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

MOST_HEAD_DIM = 256


def refusal(device_type: str) -> str | None:
    """Why this backend cannot run on tensors of a device, or `None`."""
    interprets = os.environ.get("TRITON_INTERPRET") == "1"
    if device_type != "cuda" and not (device_type == "cpu" and interprets):
        hint = "; with TRITON_INTERPRET=1 also on CPU tensors" if device_type == "cpu" else ""
        return f"backend 'triton' runs on CUDA tensors, got tensors on {device_type}{hint}"
    if find_spec("triton") is None:
        return "backend 'triton' needs triton: pip install 'attnloom[triton]'"
    return None


def operands(layouts: Sequence[HeadLayout], layout_of_head: torch.Tensor) -> Operands:
    """A plan as pools of integers, on its device."""
    executable = Executable.of(layouts, layout_of_head.cpu().numpy())
    tensors, sizes = executable.operands()
    return Operands(tuple(x.to(layout_of_head.device) for x in tensors), sizes)


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    layout_of_head: torch.Tensor,
    sizes: Sequence[int],
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, in the dtype of `query`, and the lse; see `attnloom.runtime.attention`."""
    from attnloom.runtime.kernels import launch

    plan = Executable.from_operands(tensors, sizes)
    query_, key, value = (_interpretable(x) for x in (query, key, value))
    output, lse = launch.forward(query_, key, value, plan, modifiers)
    return output.to(query.dtype), lse


def _interpretable(x: torch.Tensor) -> torch.Tensor:
    """The tensor in a dtype that the interpreter multiplies: it takes bfloat16 for integers."""
    return x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x


def backward(
    d_output: torch.Tensor,
    d_lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    layout_of_head: torch.Tensor,
    sizes: Sequence[int],
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of `query`, `key` and `value`, contiguous."""
    from attnloom.runtime.kernels import launch

    plan = Executable.from_operands(tensors, sizes)
    dtype = query.dtype
    query, key, value, output, d_output = (
        _interpretable(x) for x in (query, key, value, output, d_output)
    )
    gradients = launch.backward(d_output, d_lse, query, key, value, output, lse, plan, modifiers)
    d_query, d_key, d_value = (x.to(dtype) for x in gradients)
    return d_query, d_key, d_value
