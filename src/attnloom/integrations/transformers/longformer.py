"""`convert_longformer`: the self-attention of Longformer, and of LED's encoder, along a plan.

Longformer has two attentions. Every token reads its window and the global tokens, with one set of
projections; each global token then has, in place of that, what it reads with projections of its
own, everything. Keys and values differ between the two, so this is more than a pattern.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from attnloom.integrations.transformers.swapping import refuse_weights, swap
from attnloom.nn.attention import Heads, with_global_rows
from attnloom.nn.padding import RealFirst
from attnloom.nn.plans import Plans
from attnloom.pattern import Pattern
from attnloom.runtime.attention import attention

_PATTERN = """
pattern longformer(reach: int = 1) {
    input hub: tokens
    input real: tokens
    window(each_side=reach)
    global(hub)
    only broadcast(real)
}
"""


def convert_longformer(model: nn.Module) -> nn.Module:
    """Swap the self-attention of a Longformer, or of an LED encoder, for ours, in place.

    The weights stay where they are, under the same names, and outputs and gradients are the same.
    Attention dropout must be 0 in training, and there are no attention weights to give out.

    Returns:
        The model.

    Raises:
        ValueError: there is no such attention in the model.
    """
    names = ("LongformerSelfAttention", "LEDEncoderSelfAttention")
    return swap(model, names, LongformerAttention, "Longformer or LED")


class LongformerAttention(nn.Module):
    """What the self-attention of Transformers' Longformer does, with its weights and signature."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.query, self.key, self.value = old.query, old.key, old.value
        self.query_global, self.key_global = old.query_global, old.key_global
        self.value_global = old.value_global
        self.num_heads, self.head_dim, self.dropout = old.num_heads, old.head_dim, old.dropout
        self.plans = Plans(_pattern(old.one_sided_attn_window_size), old.num_heads)
        self.train(old.training)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        is_index_masked: torch.Tensor | None = None,
        is_index_global_attn: torch.Tensor | None = None,
        is_global_attn: bool | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor]:
        refuse_weights(self.training and self.dropout, output_attentions)
        nothing = torch.zeros(
            hidden_states.shape[:2], dtype=torch.bool, device=hidden_states.device
        )
        real = ~(nothing if is_index_masked is None else is_index_masked)
        hub = nothing if is_index_global_attn is None else is_index_global_attn & real
        if bool(real.all()):
            return (self._read(hidden_states, hub, real),)
        packing = RealFirst.of(real)
        if not _is_in_one_piece(real):
            # A gap in a sequence keeps its place: the tokens beside it do not move together.
            output = self._read(hidden_states, hub, real)
            return (output * real[..., None].to(output.dtype),)
        packed, hub = packing.pack(hidden_states), packing.pack(hub)
        output = torch.zeros_like(packed)
        for length, some in packing.by_length():
            found = self._read(packed[some, :length], hub[some, :length], None)
            output[some, :length] = found.to(output.dtype)
        return (packing.unpack(output),)

    def _read(self, x: torch.Tensor, hub: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
        """Attention of sequences, of which `real` says what is there; all of it, if `None`."""
        length, device = x.shape[1], str(x.device)
        real = torch.ones_like(hub) if real is None else real
        inputs = {"hub": _one_for_all(hub), "real": _one_for_all(real)}
        plan = self.plans.of_inputs(length, device, inputs)
        output = attention(*self._heads(x, ""), plan)
        if bool(hub.any()):
            rows = self.plans.rows_of_inputs(length, device, inputs)
            output = with_global_rows(output, self._heads(x, "_global"), rows)
        return output.transpose(1, 2).flatten(2)

    def _heads(self, x: torch.Tensor, name: str) -> Heads:
        query, key, value = (
            getattr(self, f"{one}{name}")(x)
            .view(*x.shape[:2], self.num_heads, self.head_dim)
            .transpose(1, 2)
            for one in ("query", "key", "value")
        )
        return query, key, value


def _pattern(reach: int) -> Pattern:
    import attnloom

    return attnloom.parse(_PATTERN, reach=reach)


def _one_for_all(mask: torch.Tensor) -> torch.Tensor:
    """One row if all are the same, so that the plan serves any batch."""
    return mask[0] if bool((mask == mask[0]).all()) else mask


def _is_in_one_piece(real: torch.Tensor) -> bool:
    """Whether in every row what is real stands together."""
    edges = real[:, 1:] != real[:, :-1]
    ends = edges.sum(1) + real[:, 0].int() + real[:, -1].int()
    return bool((ends <= 2).all())
