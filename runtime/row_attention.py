"""Attention of any few queries of a plan, over keys that stand anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.row_reader import Ints, Reads, RowReader

_ROWS_AT_ONCE = 128


def attention_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    reader: RowReader,
    positions: Ints,
    modifiers: Modifiers,
    *,
    slots: NDArray[np.integer[Any]] | None = None,
) -> torch.Tensor:
    """The rows of `attention` of some queries, and 0 for a query that is not there.

    Args:
        query: `(batch, heads, count, head_dim)`.
        key: `(batch, kv_heads, length, head_dim)`.
        value: like `key`.
        reader: of the heads of `query`.
        positions: of the queries, `(batch or 1, count)`; one that is -1 reads nothing and gives 0.
        modifiers: what changes scores beside the plan.
        slots: where each key stands, `(batch, keys)`, -1 where it is not; when not given, key `j`
            stands at `j`.

    Raises:
        ValueError: a key that is read is missing.
    """
    outputs = []
    for start in range(0, query.shape[2], _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        reads = reader.reads(positions[:, some])
        at = _places(reads.keys, slots)
        missing = (reads.keys >= 0) & ((at < 0) | (at >= key.shape[2]))
        if missing.any():
            wanted = np.broadcast_to(reads.keys, missing.shape)[missing][0]
            raise ValueError(f"key {wanted} is read, and not among the {key.shape[2]} given")
        places: Ints = np.where(reads.keys < 0, 0, at).astype(np.int64)
        found = _attend(query[:, :, some], key, value, places, reads, positions[:, some], modifiers)
        outputs.append(found)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)


def _places(keys: Ints, slots: NDArray[np.integer[Any]] | None) -> NDArray[np.integer[Any]]:
    """Where some keys stand, `(batch or 1, count)`; anything where there is none."""
    keys = np.maximum(keys, 0)
    if slots is None:
        return keys
    if len(keys) > 1:
        return np.take_along_axis(slots, keys, 1)
    same = slots[:1] if (slots == slots[0]).all() else slots
    return same[:, keys[0]]


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    at: Ints,
    reads: Reads,
    positions: Ints,
    modifiers: Modifiers,
) -> torch.Tensor:
    """Attention over the keys that stand `at` some places, as far as they are read."""
    key, value = _gathered(key, at), _gathered(value, at)
    mask = torch.from_numpy(reads.allowed).to(key.device)
    if not modifiers.is_plain or modifiers.sinks is not None:
        distances = np.abs(positions[:, :, None] - reads.keys[:, None, :])
        far = torch.from_numpy(distances).to(key.device)[:, None]
        return _attend_modified(query, key, value, mask, far, modifiers)
    # A row without keys gets any, and its result is dropped.
    nothing = ~mask.any(-1, keepdim=True)
    is_grouped = key.shape[1] != query.shape[1]
    output = scaled_dot_product_attention(
        query, key, value, mask | nothing, scale=modifiers.scale, enable_gqa=is_grouped
    )
    return output.masked_fill(nothing, 0)


def _attend_modified(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    far: torch.Tensor,
    modifiers: Modifiers,
) -> torch.Tensor:
    """The same by hand, for scores that PyTorch's attention does not know.

    Shapes:
        far: how far each key is from each query, `(batch or 1, 1, count, keys)`
    """
    scale, softcap, slopes, sinks, _ = modifiers
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    group = query.shape[1] // key.shape[1]
    key, value = (x.to(exact).repeat_interleave(group, 1) for x in (key, value))
    scores = query.to(exact) @ key.mT * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if slopes is not None:
        scores = scores - slopes.to(exact)[:, None, None] * far
    nothing = ~mask.any(-1, keepdim=True)
    scores = scores.masked_fill(~mask & ~nothing, -torch.inf)
    if sinks is not None:
        sink = sinks.to(exact)[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], -1)
        value = torch.cat([value, torch.zeros_like(value[:, :, :1])], 2)
    output = torch.softmax(scores, -1) @ value
    return output.masked_fill(nothing, 0).to(query.dtype)


def _gathered(x: torch.Tensor, at: Ints) -> torch.Tensor:
    """The keys or values at some places, `(batch or 1, count)`; consecutive ones are not copied."""
    if len(at) == 1 and (np.diff(at[0]) == 1).all():
        return x[:, :, int(at[0, 0]) : int(at[0, 0]) + at.shape[1]]
    places = torch.from_numpy(at).to(x.device)
    if len(at) == 1:
        return x.index_select(2, places[0])
    return x.gather(2, places[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
