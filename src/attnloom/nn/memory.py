"""`MemoryTokens`: learned tokens in front of a sequence, for patterns with `memory(m)`."""

from __future__ import annotations

import torch
from torch import nn


class MemoryTokens(nn.Module):
    """Learned tokens that are put in front of every sequence, and taken off again.

    What the model has made of them can be carried into the next piece of a long text, as in the
    recurrent memory transformer (Bulatov, Kuratov & Burtsev 2022, arXiv:2207.06881):

    >>> memory = MemoryTokens(2, 8)
    >>> first, second = torch.randn(2, 3, 5, 8)
    >>> state, output = memory.split(memory(first))  # the model goes between
    >>> memory(second, state).shape
    torch.Size([3, 7, 8])

    Args:
        num_tokens: how many; the `m` of the pattern's `memory(m)`.
        embed_dim: the width of the model.
        std: the standard deviation of the values it starts from.
        device, dtype: of the parameter.
    """

    def __init__(
        self,
        num_tokens: int,
        embed_dim: int,
        *,
        std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("num_tokens", num_tokens), ("embed_dim", embed_dim)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name} must be an integer, got {type(size).__name__}")
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.tokens = nn.Parameter(torch.empty(num_tokens, embed_dim, device=device, dtype=dtype))
        nn.init.normal_(self.tokens, std=std)

    @property
    def num_tokens(self) -> int:
        return self.tokens.shape[0]

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        """A sequence with memory in front, `(batch, num_tokens + n, embed_dim)`.

        Args:
            x: `(batch, n, embed_dim)`.
            state: memory from the piece before, `(batch, num_tokens, embed_dim)`; the learned
                tokens when not given.
        """
        if x.dim() != 3 or x.shape[2] != self.tokens.shape[1]:
            raise ValueError(
                f"x must have shape (batch, n, {self.tokens.shape[1]}), got {tuple(x.shape)}"
            )
        wanted = (len(x), *self.tokens.shape)
        if state is None:
            state = self.tokens.expand(wanted)
        elif tuple(state.shape) != wanted:
            raise ValueError(f"state must have shape {wanted}, got {tuple(state.shape)}")
        return torch.cat([state.to(x.dtype), x], dim=1)

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The memory and the tokens of a sequence `(batch, num_tokens + n, embed_dim)`."""
        if x.dim() != 3 or x.shape[1] <= self.num_tokens:
            raise ValueError(
                f"x must have shape (batch, {self.num_tokens} + n, embed_dim), got {tuple(x.shape)}"
            )
        return x[:, : self.num_tokens], x[:, self.num_tokens :]

    def extra_repr(self) -> str:
        return f"{self.tokens.shape[0]}, {self.tokens.shape[1]}"
