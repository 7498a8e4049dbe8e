"""What changes scores beside the plan: the same in every backend."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch


class Modifiers(NamedTuple):
    """What becomes of `<query_i, key_j>` before the softmax, in this order.

    It is multiplied by `scale`; `s` becomes `softcap * tanh(s / softcap)` unless `softcap` is 0;
    `alibi_slopes[head] * |i - j|` is subtracted, positions being counted with memory tokens; keys
    from `key_lengths[batch]` on are not read. `exp(sinks[head])` joins each query's sum of
    exponentials, as a key whose value is 0 would.

    Shapes:
        alibi_slopes, sinks: `(heads,)`; key_lengths: integers `(batch,)`
    """

    scale: float
    softcap: float = 0.0
    alibi_slopes: torch.Tensor | None = None
    sinks: torch.Tensor | None = None
    key_lengths: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        query: torch.Tensor,
        *,
        scale: float | None = None,
        softcap: float | None = None,
        alibi_slopes: torch.Tensor | None = None,
        sinks: torch.Tensor | None = None,
    ) -> Modifiers:
        """From the arguments of `attention`, for queries `(batch, heads, length, head_dim)`."""
        factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
        return cls(factor, 0.0 if softcap is None else float(softcap), alibi_slopes, sinks)

    def of_heads(self, heads: torch.Tensor) -> Modifiers:
        """The same for some of the heads."""
        slopes, sinks = (
            None if x is None else x.index_select(0, heads.to(x.device))
            for x in (self.alibi_slopes, self.sinks)
        )
        return self._replace(alibi_slopes=slopes, sinks=sinks)

    @property
    def is_plain(self) -> bool:
        """Whether scores are only multiplied, and sinks are all there may be beside them."""
        return not self.softcap and self.alibi_slopes is None and self.key_lengths is None


def with_sinks(
    output: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of which `exp(sinks)` joins the sums; a sink of `-inf` changes nothing.

    Shapes:
        output: `(batch, heads, length, head_dim)`; lse: `(batch, heads, length)`; sinks: `(heads,)`

    >>> output, lse = with_sinks(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1))
    >>> output.item(), lse.exp().item()
    (0.5, 2.0)
    """
    sinks = sinks.to(lse.dtype)[:, None]
    silent = (lse == -torch.inf) & (sinks == -torch.inf)
    # Where there is nothing at all, any total will do but -inf, whose gradients are NaN.
    total = torch.logaddexp(lse.masked_fill(silent, 0.0), sinks)
    share = torch.exp(lse - total)
    return (output * share[..., None]).to(output.dtype), total.masked_fill(silent, -torch.inf)
