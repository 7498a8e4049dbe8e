"""What the comparisons share: attention by our plans, and masks of other implementations."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attnloom
from attnloom import Pattern

Mask = NDArray[np.bool_]


def needed(package: str, distribution: str | None = None) -> Any:
    """A package, or a skip that says how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = distribution or package
        pytest.skip(f"{name} is not installed ({error}); see docs/library.md")


def mask_of(name: str, n: int, *, inputs: Mapping[str, Any] | None = None, **params: Any) -> Mask:
    """The mask of a bundled pattern; `head`, `heads`, `layer` and `layers` say where."""
    at = {key: params.pop(key) for key in ("head", "heads", "layer", "layers") if key in params}
    return attnloom.load(name, **params).mask(n, inputs=inputs, **at)


def mask_mod(function: Callable[..., torch.Tensor], n: int, m: int | None = None) -> Mask:
    """The mask that a `(batch, head, query, key)` predicate means."""
    rows, keys = torch.arange(n)[:, None], torch.arange(n if m is None else m)[None, :]
    nothing = torch.zeros((), dtype=torch.long)
    found = function(nothing, nothing, rows, keys)
    return np.asarray(torch.broadcast_to(found, (len(rows), keys.shape[1])).numpy())


def heads_of(states: torch.Tensor, heads: int) -> torch.Tensor:
    """`(batch, length, width)` as `(batch, heads, length, head_dim)`."""
    batch, length, width = states.shape
    return states.view(batch, length, heads, width // heads).transpose(1, 2)


def joined(states: torch.Tensor) -> torch.Tensor:
    """`(batch, heads, length, head_dim)` as `(batch, length, width)`."""
    return states.transpose(1, 2).flatten(2)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: Pattern,
    *,
    memory: int = 0,
    inputs: Mapping[str, Any] | None = None,
    layer: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention by the plan of a pattern; `memory` of the positions are memory tokens."""
    heads, length = query.shape[1:3]
    plan = pattern.compile(length - memory, heads=heads, inputs=inputs, layer=layer, block=16)
    return attnloom.attention(query, key, value, plan, scale=scale)


def softmax_over(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    counts: NDArray[Any],
    scale: float | None = None,
) -> torch.Tensor:
    """Dense attention in which a key weighs as often as it is counted; 0 leaves it out."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-1, -2) * factor
    weights = (scores + torch.as_tensor(np.array(counts, dtype=float)).log()).softmax(-1)
    return weights.to(value.dtype) @ value


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights that are large enough for every key to matter; in float64, ready to be asked."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return module


def states(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
