"""`Encoder` and `Decoder`: small transformers along a pattern, for examples and experiments."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import silu

from attnloom.nn.attention import PatternAttention
from attnloom.nn.memory import MemoryTokens
from attnloom.nn.plans import Inputs, Plans
from attnloom.nn.rope import Rope
from attnloom.pattern import Pattern


class Block(nn.Module):
    """A layer: attention, then a gated feed-forward network, each after a norm and added on."""

    def __init__(self, attention: PatternAttention, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        width = attention.embed_dim
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = attention
        self.gate_proj = nn.Linear(width, hidden_dim, bias=False)
        self.up_proj = nn.Linear(width, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: torch.Tensor, attend: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """The next states; `attend` has the attention of this layer read what it is given."""
        x = x + self.dropout(attend(self.attention_norm(x)))
        y = self.mlp_norm(x)
        y = self.down_proj(silu(self.gate_proj(y)) * self.up_proj(y))
        return cast(torch.Tensor, x + self.dropout(y))


class Transformer(nn.Module):
    """What `Encoder` and `Decoder` share: an embedding, memory tokens if there are any, layers.

    Args:
        vocab_size: how many different tokens there are.
        embed_dim: the width of the states.
        num_layers: how many layers.
        num_heads: query heads of a layer.
        pattern: who reads whom; asked for each layer.
        num_kv_heads: as in `PatternAttention`.
        hidden_dim: the width inside of the feed-forward networks; `4 * embed_dim` when not given.
        qk_norm: whether queries and keys are normalised.
        rope_base: of the rotary positions.
        dropout: of what a layer adds on; the weights of attention are never dropped.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        pattern: Pattern,
        *,
        num_kv_heads: int | None = None,
        hidden_dim: int | None = None,
        qk_norm: bool = True,
        rope_base: float = 10000.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)
        num_memory = Plans(pattern, num_heads, layers=num_layers).memory_of(_SOME_LENGTH)
        self.memory = MemoryTokens(num_memory, embed_dim) if num_memory else None
        options: dict[str, Any] = {"num_kv_heads": num_kv_heads, "bias": False}
        if qk_norm:
            options["qk_norm"] = nn.RMSNorm
        self.blocks = nn.ModuleList(
            Block(
                PatternAttention(
                    embed_dim, num_heads, pattern, layer=layer, layers=num_layers,
                    rope=Rope(embed_dim // num_heads, base=rope_base), **options,
                ),
                4 * embed_dim if hidden_dim is None else hidden_dim,
                dropout,
            )
            for layer in range(num_layers)
        )  # fmt: skip
        self.norm = nn.RMSNorm(embed_dim)

    @property
    def layers(self) -> list[PatternAttention]:
        """The attention of each layer."""
        return [cast(Block, block).attention for block in self.blocks]

    def states(
        self,
        ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        inputs: Inputs | None = None,
        memory: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The last states of memory, if there is any, and of tokens `(batch, n)`."""
        x = self.embedding(ids)
        if self.memory is not None:
            x = self.memory(x, memory)
        for block, layer in zip(self.blocks, self.layers, strict=True):
            x = block(x, partial(layer, attention_mask=attention_mask, inputs=inputs))
        x = self.norm(x)
        if self.memory is None:
            return None, x
        return self.memory.split(x)


class Encoder(Transformer):
    """Token ids to states, `(batch, n, embed_dim)`.

    >>> import attnloom
    >>> model = Encoder(256, 32, 2, 4, attnloom.load("longformer", reach=8))
    >>> model(torch.randint(256, (3, 50))).shape
    torch.Size([3, 50, 32])
    """

    def forward(
        self,
        ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        inputs: Inputs | None = None,
    ) -> torch.Tensor:
        """The last states; arguments as in `PatternAttention`."""
        return self.states(ids, attention_mask, inputs)[1]


class Decoder(Transformer):
    """A language model: token ids to scores of the next token, `(batch, n, vocab_size)`.

    >>> import attnloom
    >>> model = Decoder(256, 32, 2, 4, attnloom.load("streaming_llm", sinks=2, recent=6))
    >>> ids = model.generate(torch.tensor([[5, 6, 7]]), 40)
    >>> whole = model(ids)  # all at once, and one by one with at most 8 keys a layer: the same
    >>> torch.equal(whole[0, 2:-1].argmax(-1), ids[0, 3:])
    True
    """

    def forward(
        self,
        ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        inputs: Inputs | None = None,
    ) -> torch.Tensor:
        """The scores; arguments as in `PatternAttention`, inputs without padding.

        Raises:
            ValueError: the pattern is not causal.
        """
        num_memory = 0 if self.memory is None else self.memory.num_tokens
        length = operator.index(num_memory + ids.shape[1])
        for layer in self.layers:
            if inputs is None:
                layer.plans.check_causal(length)
            elif attention_mask is None:
                layer.plans.of_inputs(length, str(ids.device), inputs, is_causal=True)
            else:
                raise ValueError("inputs of a decoder must come without attention_mask")
        return self._scores(self.states(ids, attention_mask, inputs)[1])

    @torch.no_grad()
    def generate(
        self, ids: torch.Tensor, count: int, *, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The likeliest next tokens, `(batch, n + count)`, with the live keys alone in memory.

        Args:
            ids: `(batch, n)`, what there is.
            count: how many tokens to add.
            attention_mask: `(batch, n)`, 0 at padding, which must come first.
        """
        if attention_mask is not None and bool((attention_mask.int().diff(dim=1) < 0).any()):
            raise ValueError("attention_mask must have its padding first, to go on behind it")
        num_memory = 0 if self.memory is None else self.memory.num_tokens
        length = num_memory + ids.shape[1] + count
        decoders = [layer.decoder(length) for layer in self.layers]
        x, mask = self.embedding(ids), attention_mask
        if self.memory is not None:
            x = self.memory(x)
            if mask is not None:
                mask = torch.cat([mask.new_ones(len(mask), num_memory), mask], 1)
        for _ in range(count):
            for block, layer, decoder in zip(self.blocks, self.layers, decoders, strict=True):
                x = block(x, partial(layer.step, decoder=decoder, attention_mask=mask))
            best = self._scores(self.norm(x[:, -1:])).argmax(-1)
            ids, mask = torch.cat([ids, best], 1), None
            x = self.embedding(best)
        return ids

    def _scores(self, states: torch.Tensor) -> torch.Tensor:
        return states @ self.embedding.weight.T


_SOME_LENGTH = 1024
"""At which patterns are looked at before any sequence is seen."""
