"""Modifiers of scores, and dense attention with them; simple, and for finite inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

MODIFIERS = {
    "softcap": ["softcap"],
    "alibi": ["alibi_slopes"],
    "sinks": ["sinks"],
    "lengths": ["key_lengths"],
    "negative scale": ["scale"],
    "all": ["softcap", "alibi_slopes", "sinks", "key_lengths", "scale"],
}


def given(name: str, *, heads: int, batch: int, dtype: torch.dtype) -> dict[str, Any]:
    """The arguments of `attention` of that name."""
    every: dict[str, Any] = {
        "softcap": 1.5,
        "alibi_slopes": 0.3 / torch.arange(1, heads + 1, dtype=dtype),
        "sinks": torch.linspace(-1, 2, heads, dtype=dtype),
        "key_lengths": torch.tensor([33, 70, 1][:batch]),
        "scale": -0.7,
    }
    return {one: every[one] for one in MODIFIERS[name]}


def allowed_by(mask: torch.Tensor, own: dict[str, Any], batch: int) -> torch.Tensor:
    """Which pairs count in the end, `(batch, heads, queries, keys)`."""
    allowed = mask.expand(batch, -1, -1, -1)
    if "key_lengths" in own:
        keys = torch.arange(mask.shape[-1])
        allowed = allowed & (keys < own["key_lengths"][:, None])[:, None, None]
    return allowed


def dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, **own: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over the whole matrix; a sink is one more key, whose value is 0."""
    allowed = allowed_by(mask, own, len(query))
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.mT * own.get("scale", query.shape[-1] ** -0.5)
    if "softcap" in own:
        scores = own["softcap"] * torch.tanh(scores / own["softcap"])
    if "alibi_slopes" in own:
        apart = torch.arange(query.shape[2])[:, None] - torch.arange(key.shape[2])
        scores = scores - own["alibi_slopes"][:, None, None].to(scores.dtype) * apart.abs()
    scores = scores.masked_fill(~allowed, -torch.inf)
    if "sinks" in own:
        more = own["sinks"].to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, more], -1)
        value = torch.cat([value, torch.zeros_like(value[:, :, :1])], 2)
    nothing = (scores == -torch.inf).all(-1, keepdim=True)
    scores = scores.masked_fill(nothing, 0.0)
    output = (torch.softmax(scores, -1) @ value).masked_fill(nothing, 0)
    return output, torch.logsumexp(scores, -1).masked_fill(nothing[..., 0], -torch.inf)


def results_with_sinks(
    attend: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    tensors: Sequence[torch.Tensor],
    wishes: Sequence[torch.Tensor],
    own: dict[str, Any],
) -> dict[str, torch.Tensor]:
    """Results and gradients, that of the sinks among them."""
    names = ["d_query", "d_key", "d_value"]
    inputs = [x.detach().requires_grad_() for x in tensors]
    own = dict(own)
    if "sinks" in own:
        own["sinks"] = own["sinks"].detach().requires_grad_()
        names.append("d_sinks")
    output, lse = attend(*inputs, **own)
    wanted = [*inputs, *([own["sinks"]] if "sinks" in own else [])]
    d_lse = wishes[1].to(lse.dtype).masked_fill(lse == -torch.inf, 0)
    gradients = torch.autograd.grad([output, lse], wanted, [wishes[0].to(output.dtype), d_lse])
    return {
        "output": output.detach(),
        "lse": lse.detach(),
        **dict(zip(names, gradients, strict=True)),
    }
