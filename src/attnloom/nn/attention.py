"""`PatternAttention`: multi-head self-attention along a pattern, as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from attnloom.nn.padding import RealFirst, inputs_of, packed_inputs
from attnloom.nn.plans import GlobalRows, Inputs, Plans
from attnloom.pattern import Pattern
from attnloom.runtime.attention import attention
from attnloom.runtime.decoding import Decoder
from attnloom.runtime.plan import Plan

Rotate = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""`(query, key, positions) -> (query, key)`, both `(batch, heads, length, head_dim)`."""

Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Query, key and value, `(batch, heads, length, head_dim)`."""


class PatternAttention(nn.Module):
    """Self-attention in which each token reads what a pattern lets it read.

    The plan of a length is made when that length is first seen, and kept. The plans are no part of
    `state_dict`, copies and pickles make their own, and `torch.compile(fullgraph=True)` traces the
    module into one graph for each length.

    >>> import attnloom
    >>> layer = PatternAttention(32, 4, attnloom.load("longformer", reach=16), num_kv_heads=2)
    >>> layer(torch.randn(3, 100, 32)).shape
    torch.Size([3, 100, 32])

    Args:
        embed_dim: the width of what comes in and goes out.
        num_heads: query heads.
        pattern: who reads whom.
        num_kv_heads: heads of keys and values, which divide the query heads; as many as those when
            not given.
        head_dim: the width of a head; `embed_dim // num_heads` when not given.
        layer: which layer of the model this is, for patterns whose layers differ.
        layers: how many layers the model has; `layer + 1` when not given.
        bias: whether the projections add a bias.
        qk_norm: makes the module that queries, and another that keys are sent through, from the
            width of a head; such as `torch.nn.RMSNorm`.
        rope: `(query, key, positions) -> (query, key)`, such as `attnloom.nn.Rope(head_dim)`, after
            the norms. Token `t` has position `t`, memory tokens have those before 0.
        global_projections: whether the tokens of the pattern's `global(...)` have projections of
            their own for what they read, as in Longformer: query, key and value.
        scale: factor of the scores; `1 / sqrt(head_dim)` when not given.
        backend: as in `attnloom.attention`.
        block: as in `Pattern.compile`.
        device, dtype: of the parameters.

    Raises:
        TypeError, ValueError: an argument is wrong, named in the message.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        pattern: Pattern,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        layer: int = 0,
        layers: int | None = None,
        bias: bool = True,
        qk_norm: Callable[[int], nn.Module] | None = None,
        rope: Rotate | None = None,
        global_projections: bool = False,
        scale: float | None = None,
        backend: str = "auto",
        block: int | tuple[int, int] = 128,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        _check_sizes(embed_dim, num_heads, kv_heads, head_dim)
        _check_functions(qk_norm, rope)
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, kv_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.global_projections, self.scale, self.backend = global_projections, scale, backend
        self.plans = Plans(pattern, num_heads, layer=layer, layers=layers, block=block)
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        widths = {"q": num_heads, "k": kv_heads, "v": kv_heads}
        for name, heads in widths.items():
            setattr(self, f"{name}_proj", nn.Linear(embed_dim, heads * self.head_dim, **options))
        if global_projections:
            for name, heads in widths.items():
                projection = nn.Linear(embed_dim, heads * self.head_dim, **options)
                setattr(self, f"{name}_global_proj", projection)
        self.o_proj = nn.Linear(num_heads * self.head_dim, embed_dim, **options)
        self.q_norm, self.k_norm = (
            None if qk_norm is None else qk_norm(self.head_dim).to(device=device, dtype=dtype)
            for _ in range(2)
        )
        self.rope = rope

    @property
    def pattern(self) -> Pattern:
        return self.plans.pattern

    def plan(self, length: int, inputs: Inputs | None = None) -> Plan:
        """The plan for sequences of a length, memory tokens counted, on the device of the weights.

        With inputs, give it to `forward` to make it once for several calls.
        """
        device = str(self.o_proj.weight.device)
        if not self.pattern.inputs and not inputs:
            return self.plans.of_length(length, device)
        return self.plans.of_inputs(length, device, inputs or {})

    def decoder(self, length: int) -> Decoder:
        """What `step` needs to go on token by token, up to a length, memory tokens counted.

        Raises:
            ValueError: the pattern is not causal, or changes as a sequence grows.
        """
        if self.global_projections or self.pattern.inputs:
            raise ValueError("a layer with global_projections or inputs cannot be decoded")
        return Decoder(self.plans.reader(length))

    def step(
        self, x: torch.Tensor, decoder: Decoder, *, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention of the next tokens of sequences that grow: the rows that `forward` would give.

        Args:
            x: `(batch, count, embed_dim)`; first of all the pattern's memory tokens.
            decoder: made by `decoder`; it keeps the keys that later tokens may read.
            attention_mask: `(batch, count)`, 0 at padding, which gives 0.
        """
        real = None if attention_mask is None else attention_mask.cpu().numpy() != 0
        there = np.ones(x.shape[:2], dtype=np.bool_) if real is None else real
        start = decoder.position[:, None] if len(decoder.position) else 0
        at = start + there.cumsum(1) - 1 - decoder.reader.plan.memory
        positions = torch.from_numpy(at).to(x.device)[:, None]
        heads = self._projected(x, "proj", positions)
        found = decoder.step(*heads, real=real, scale=self.scale)
        output = cast(torch.Tensor, self.o_proj(found.transpose(1, 2).flatten(2)))
        if attention_mask is not None:
            output = output.masked_fill(attention_mask[..., None] == 0, 0)
        return output

    def forward(
        self,
        x: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        inputs: Inputs | None = None,
        plan: Plan | None = None,
    ) -> torch.Tensor:
        """Attention, and 0 for padding.

        Args:
            x: `(batch, length, embed_dim)`; the pattern's memory tokens come first.
            attention_mask: `(batch, n)` for the `n` tokens without memory, 0 where there is none.
                The pattern speaks of the real tokens: its token 0 is the first of them, and `n` is
                their number. With padding, inputs are masks or ids `(batch, n)` like this one.
            inputs: the pattern's run-time inputs, as in `Pattern.bind`.
            plan: made by `plan`, instead of inputs and of looking it up.

        Raises:
            TypeError, ValueError: an argument is wrong, named in the message.
        """
        if x.dim() != 3 or x.shape[2] != self.embed_dim:
            raise ValueError(
                f"x must have shape (batch, length, {self.embed_dim}), got {tuple(x.shape)}"
            )
        if plan is not None and (inputs or attention_mask is not None or self.global_projections):
            raise ValueError("plan must come without inputs, attention_mask and global_projections")
        if attention_mask is None:
            return cast(torch.Tensor, self.o_proj(self._read(x, inputs, plan)))
        memory = self.plans.memory(x.shape[1])
        packing = _packing(attention_mask, (x.shape[0], x.shape[1] - memory))
        given = packed_inputs(inputs or {}, packing)
        packing = packing.behind(memory)
        output = self._read_padded(packing.pack(x), packing, memory, given)
        # The bias of the last projection must not reach the padding either.
        return packing.unpack(self.o_proj(output))

    def _read(
        self,
        x: torch.Tensor,
        inputs: Inputs | None,
        plan: Plan | None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """All but the last projection, `(batch, length, heads * head_dim)`.

        What stands behind the first `lengths` positions is not read.
        """
        length, device = x.shape[1], str(x.device)
        from_length = not self.pattern.inputs and not inputs
        if plan is None and from_length:
            plan = self.plans.of_length(length, device)
        elif plan is None:
            plan = self.plans.of_inputs(length, device, inputs or {})
        positions = torch.arange(-plan.memory, length - plan.memory, device=x.device)
        query, key, value = self._projected(x, "proj", positions)
        options: dict[str, Any] = {
            "scale": self.scale, "backend": self.backend, "key_lengths": lengths,
        }  # fmt: skip
        output: torch.Tensor = attention(query, key, value, plan, **options)
        if self.global_projections:
            if from_length:
                rows = self.plans.rows_of_length(length, device)
            else:
                rows = self.plans.rows_of_inputs(length, device, inputs or {})
            heads = self._projected(x, "global_proj", positions)
            output = with_global_rows(output, heads, rows, **options)
        return output.transpose(1, 2).flatten(2)

    def _read_padded(
        self, x: torch.Tensor, packing: RealFirst, memory: int, inputs: Inputs
    ) -> torch.Tensor:
        """The same where the real tokens come first; anything for padding."""
        if takes_lengths(self.plans, x.device, self.backend):
            return self._read(x, inputs, None, packing.lengths)
        output = x.new_zeros(*x.shape[:2], self.num_heads * self.head_dim)
        for length, elements in packing.by_length():
            if length == memory:
                continue
            given = inputs_of(inputs, elements, length - memory)
            found = self._read(x[elements, :length], given, None)
            output = output.to(found.dtype)
            output[elements, :length] = found
        return output

    def _projected(self, x: torch.Tensor, name: str, positions: torch.Tensor) -> Heads:
        """Queries, keys and values by the projections of that name."""
        (batch, length, _), kv_heads = x.shape, self.num_kv_heads
        query, key, value = (
            cast(torch.Tensor, getattr(self, f"{one}_{name}")(x))
            .view(batch, length, heads, self.head_dim)
            .transpose(1, 2)
            for one, heads in zip("qkv", (self.num_heads, kv_heads, kv_heads), strict=True)
        )
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        if self.rope is not None:
            query, key = self.rope(query, key, positions)
        return query, key, value

    def extra_repr(self) -> str:
        kv = f", num_kv_heads={self.num_kv_heads}" if self.num_kv_heads != self.num_heads else ""
        return f"{self.embed_dim}, {self.num_heads}{kv}, {self.pattern}, layer={self.plans.layer}"


def takes_lengths(plans: Plans, device: torch.device, backend: str) -> bool:
    """Whether sequences of several lengths are read at once, and not one length at a time.

    The kernels for GPUs leave keys beyond a length out at no cost; on a CPU that is slow. And the
    plan of the longest must hold for the others, as far as they go.
    """
    chosen = backend == "triton" or (backend == "auto" and device.type == "cuda")
    return chosen and plans.keeps_growing


def with_global_rows(
    output: torch.Tensor,
    heads: Heads,
    rows: GlobalRows,
    **options: Any,
) -> torch.Tensor:
    """An output in which the global queries have what they read among other heads."""
    query, key, value = heads
    length = output.shape[2]
    where = rows.rows.expand(len(query), -1)[:, None, :, None]
    here = where.clamp(max=length - 1)
    query = query.gather(2, here.expand(-1, query.shape[1], -1, query.shape[3]))
    found = attention(query, key, value, rows.plan, **options)
    # A row behind the last one takes what is not used.
    output = torch.cat([output, output[:, :, :1]], 2)
    return output.scatter(2, where.expand(found.shape), found)[:, :, :length]


def _check_sizes(embed_dim: int, heads: int, kv_heads: int, head_dim: int | None) -> None:
    sizes = {"embed_dim": embed_dim, "num_heads": heads, "num_kv_heads": kv_heads}
    if head_dim is not None:
        sizes["head_dim"] = head_dim
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{name} must be an integer, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if head_dim is None and embed_dim % heads:
        raise ValueError(f"num_heads must divide embed_dim, {embed_dim}, got {heads}")
    if heads % kv_heads:
        raise ValueError(f"num_kv_heads must divide num_heads, {heads}, got {kv_heads}")


def _check_functions(qk_norm: object, rope: object) -> None:
    if qk_norm is not None and not callable(qk_norm):
        raise TypeError(
            "qk_norm must make a module from the width of a head, such as torch.nn.RMSNorm, "
            f"got {qk_norm!r}"
        )
    if rope is not None and not callable(rope):
        raise TypeError(
            "rope must be a function of queries, keys and positions, such as "
            f"attnloom.nn.Rope(head_dim), got {rope!r}"
        )


def _packing(mask: torch.Tensor, shape: tuple[int, int]) -> RealFirst:
    if not isinstance(mask, torch.Tensor):
        raise TypeError(f"attention_mask must be a torch.Tensor, got {type(mask).__name__}")
    if tuple(mask.shape) != shape:
        raise ValueError(f"attention_mask must have shape {shape}, got {tuple(mask.shape)}")
    return RealFirst.of(mask)
