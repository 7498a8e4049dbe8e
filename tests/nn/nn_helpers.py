"""Oracles of the module tests: PyTorch's own attention over the dense mask of a pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

import attnloom
from attnloom.nn import PatternAttention


def seeded(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights that are large enough for every key to matter, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return module


def states(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_mask(
    pattern: attnloom.Pattern,
    n: int,
    heads: int,
    *,
    layer: int = 0,
    inputs: Mapping[str, Any] | None = None,
    batch: int = 1,
) -> torch.Tensor:
    """Who reads what by the definition, bool `(batch, heads, m + n, m + n)`."""
    found = [
        [
            pattern.mask(n, head=head, heads=heads, layer=layer, inputs=inputs, element=element)
            for head in range(heads)
        ]
        for element in range(batch)
    ]
    return torch.from_numpy(np.array(found))


def attend_densely(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, **options: Any
) -> torch.Tensor:
    """PyTorch's attention; a query that reads nothing gives 0."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    nothing = ~mask.any(-1, keepdim=True)
    found = scaled_dot_product_attention(query, key, value, mask | nothing, **options)
    return found.masked_fill(nothing, 0)


def densely(
    module: PatternAttention, x: torch.Tensor, mask: torch.Tensor, name: str = "proj"
) -> torch.Tensor:
    """What a module without norms and positions must give, by plain projections."""
    batch, length, _ = x.shape
    heads = [
        linear(x, *getattr(module, f"{one}_{name}").parameters())
        .view(batch, length, -1, module.head_dim)
        .transpose(1, 2)
        for one in "qkv"
    ]
    found = attend_densely(*heads, mask)
    return linear(found.transpose(1, 2).reshape(batch, length, -1), *module.o_proj.parameters())
