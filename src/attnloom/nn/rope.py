"""`Rope`: rotary position embedding (Su et al. 2021, arXiv:2104.09864)."""

from __future__ import annotations

import torch
from torch import nn


class Rope(nn.Module):
    """Turns queries and keys by angles that grow with the position.

    Scores then depend on how far apart two tokens are. The first half of a head is paired with the
    second, as Llama does.

    >>> rope = Rope(8)
    >>> query, key = torch.ones(1, 1, 3, 8), torch.ones(1, 1, 3, 8)
    >>> (rope(query, key, torch.arange(3))[0][0, 0, 0] == 1).all().item()  # position 0: no turn
    True

    Args:
        head_dim: the width of a head, even.
        base: the longest wave has about `2 * pi * base` positions.
    """

    def __init__(self, head_dim: int, *, base: float = 10000.0) -> None:
        super().__init__()
        if head_dim < 2 or head_dim % 2:
            raise ValueError(f"head_dim must be even and at least 2, got {head_dim}")
        self.head_dim, self.base = head_dim, base

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both turned; `positions` is `(length,)` or `(batch, 1, length)`."""
        if query.shape[-1] != self.head_dim:
            raise ValueError(f"query must have a width of {self.head_dim}, got {query.shape[-1]}")
        # In float32 whatever the model runs in: half precision cannot tell far positions apart.
        steps = torch.arange(0, self.head_dim, 2, device=query.device, dtype=torch.float32)
        speed = self.base ** (-steps / self.head_dim)
        angle = positions[..., None].to(torch.float32) * speed
        cos, sin = angle.cos(), angle.sin()
        return _turned(query, cos, sin), _turned(key, cos, sin)

    def extra_repr(self) -> str:
        return f"{self.head_dim}, base={self.base}"


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(x.dtype)
