"""Decoding: a few new tokens of a sequence that grows, along a causal plan.

A plan of `n` tokens says what each of `n` positions reads, so one plan serves all steps up to `n`.
A key is *live* as long as a later token may read it; a `Decoder` keeps the live ones and no others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.plan import Plan
from attnloom.runtime.row_reader import Bools, Ints, Reads, RowReader, reads_ahead

_ROWS_AT_ONCE = 128


def attention_step(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Plan,
    position: int | torch.Tensor,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    reader: RowReader | None = None,
) -> torch.Tensor:
    """Attention of a few consecutive queries of a plan, over all keys so far.

    The same as those rows of `attention`. For a causal plan these are the new tokens of a sequence
    that grows.

    >>> import attnloom
    >>> plan = attnloom.load("mistral", recent=4).compile(16, heads=2)
    >>> query, key, value = torch.randn(3, 1, 2, 16, 8)
    >>> whole = attnloom.attention(query, key, value, plan)
    >>> step = attention_step(query[:, :, 9:11], key[:, :, :11], value[:, :, :11], plan, 9)
    >>> torch.allclose(step, whole[:, :, 9:11], atol=1e-6)
    True

    Args:
        query: `(batch, heads, count, head_dim)`, of the positions from `position` on.
        key: `(batch, kv_heads, length, head_dim)`, of the positions from 0 on: all that the queries
            read, or more.
        value: like `key`.
        plan: which query reads which key.
        position: of the first query, memory tokens counted; or one for each batch element,
            `(batch,)`, less than 0 for queries of padding.
        scale: as in `attention`.
        softcap: likewise.
        alibi_slopes: likewise.
        sinks: likewise.
        reader: the plan's `RowReader`, which remembers what it has worked out.

    Raises:
        ValueError: the shapes do not fit the plan, or a key that is read is missing.
    """
    reader = RowReader(plan) if reader is None else reader
    _check_step(query, key, value, plan)
    batch, _, count, _ = query.shape
    first = np.atleast_1d(torch.as_tensor(position).cpu().numpy()).astype(np.int64)
    if first.shape not in ((1,), (batch,)):
        raise ValueError(f"position must be a number or have shape ({batch},), got {first.shape}")
    positions = first[:, None] + np.arange(count)
    if positions.max() >= plan.query_len:
        raise ValueError(
            f"the plan has {plan.query_len} positions, got a query at {int(positions.max())}"
        )
    return attention_rows(
        query, key, value, reader, np.maximum(positions, -1),
        scale=scale, softcap=softcap, alibi_slopes=alibi_slopes, sinks=sinks,
    )  # fmt: skip


def attention_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    reader: RowReader,
    positions: Ints,
    *,
    slots: NDArray[np.integer[Any]] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of any queries of a plan, over keys that stand anywhere.

    Args:
        query: `(batch, heads, count, head_dim)`.
        key: `(batch, kv_heads, length, head_dim)`.
        value: like `key`.
        reader: of the plan.
        positions: of the queries, `(batch or 1, count)`; one that is -1 reads nothing and gives 0.
        slots: where each key stands, `(batch, keys)`, -1 where it is not; when not given, key `j`
            stands at `j`.
        scale: as in `attention`.
        softcap: likewise.
        alibi_slopes: likewise.
        sinks: likewise.

    Raises:
        ValueError: a key that is read is missing.
    """
    factor = query.shape[3] ** -0.5 if scale is None else float(scale)
    modifiers = Modifiers(factor, softcap or 0.0, alibi_slopes, sinks)
    outputs = []
    for start in range(0, query.shape[2], _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        reads = reader.reads(positions[:, some])
        keys = np.maximum(reads.keys, 0)
        if slots is None:
            at = keys
        elif len(keys) == 1:
            at = slots[:1] if (slots == slots[0]).all() else slots
            at = at[:, keys[0]]
        else:
            at = np.take_along_axis(slots, keys, 1)
        missing = (reads.keys >= 0) & ((at < 0) | (at >= key.shape[2]))
        if missing.any():
            wanted = np.broadcast_to(reads.keys, missing.shape)[missing][0]
            raise ValueError(f"key {wanted} is read, and not among the {key.shape[2]} given")
        at = np.where(reads.keys < 0, 0, at).astype(np.int64)
        found = _attend(query[:, :, some], key, value, at, reads, positions[:, some], modifiers)
        outputs.append(found)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)


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


class Decoder:
    """The keys and values that the tokens to come may still read; no gradients go through it.

    Each sequence of the batch has its own next position, so sequences may have been padded. There
    are never more than `reader.most_live` keys of a sequence, whatever its length.

    >>> import attnloom
    >>> plan = attnloom.load("streaming_llm", sinks=4, recent=60).compile(10_000, heads=2)
    >>> decoder = plan.decoder()
    >>> for _ in range(1000):
    ...     query, key, value = torch.randn(3, 1, 2, 1, 8)
    ...     output = decoder.step(query, key, value)
    >>> decoder.keys.shape, decoder.num_kept.tolist(), decoder.position.tolist()
    (torch.Size([1, 2, 64, 8]), [64], [1000])

    Shapes:
        keys, values: `(batch, kv_heads, most_live, head_dim)`, in no order
        position: int64 `(batch,)`, how many real tokens each sequence has had
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, reader: RowReader) -> None:
        if any(map(reads_ahead, reader.plan.layouts)):
            raise ValueError(
                "plan must be causal to be decoded along, and some query reads a later key; "
                "`only causal` in the pattern removes such"
            )
        self.reader = reader
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.keys = self.values = torch.empty(0)
        self.position: Ints = np.zeros(0, dtype=np.int64)
        self._slots: NDArray[np.int32] = np.zeros((0, self.reader.plan.kv_len), dtype=np.int32)
        self._free: list[list[int]] = []

    @property
    def is_empty(self) -> bool:
        """Whether no token has come yet."""
        return not self.position.any()

    @property
    def num_kept(self) -> Ints:
        """How many keys of each sequence are kept, `(batch,)`."""
        return np.array([self.reader.most_live - len(free) for free in self._free], dtype=np.int64)

    def step(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        real: Bools | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        alibi_slopes: torch.Tensor | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of new tokens over the keys that are kept and their own, which are then kept.

        Args:
            query: `(batch, heads, count, head_dim)`, of the next `count` tokens.
            key: `(batch, kv_heads, count, head_dim)`, of the same tokens.
            value: like `key`.
            real: `(batch, count)`, which of them are no padding; all, when not given. The output
                for padding is 0.
            scale: as in `attention`.
            softcap: likewise.
            alibi_slopes: likewise.
            sinks: likewise.

        Raises:
            ValueError: the shapes do not fit, or a sequence grows longer than the plan.
        """
        positions = self._positions(query, key, value, real)
        options: dict[str, Any] = {
            "scale": scale, "softcap": softcap, "alibi_slopes": alibi_slopes, "sinks": sinks,
        }  # fmt: skip
        if query.shape[2] == 1:
            self._forget(positions.max(1) - 1)
            self._keep(key, value, positions, np.zeros_like(self.position))
            output = attention_rows(
                query, self.keys, self.values, self.reader, positions,
                slots=self._slots, **options,
            )  # fmt: skip
        else:
            room = self.reader.most_live
            slots = self._slots.copy()
            for row, own in zip(slots, positions, strict=True):
                row[own[own >= 0]] = room + np.flatnonzero(own >= 0)
            keys, values = torch.cat([self.keys, key], 2), torch.cat([self.values, value], 2)
            output = attention_rows(
                query, keys, values, self.reader, positions, slots=slots, **options
            )
            self._append(key, value, positions)
        self.position = np.maximum(self.position, positions.max(1) + 1)
        return output

    def append(self, key: torch.Tensor, value: torch.Tensor, *, real: Bools | None = None) -> None:
        """Keep what is needed of new tokens, whose attention is worked out elsewhere."""
        positions = self._positions(None, key, value, real)
        self._append(key, value, positions)
        self.position = np.maximum(self.position, positions.max(1) + 1)

    def select(self, elements: torch.Tensor | NDArray[np.int64]) -> None:
        """Keep some sequences, perhaps several times over, as beam search does."""
        if not len(self.position):
            return
        chosen = torch.as_tensor(elements, device=self.keys.device)
        self.keys, self.values = (x.index_select(0, chosen) for x in (self.keys, self.values))
        numbers = chosen.cpu().numpy()
        self.position, self._slots = self.position[numbers], self._slots[numbers]
        self._free = [list(self._free[number]) for number in numbers.tolist()]

    def _positions(
        self, query: torch.Tensor | None, key: torch.Tensor, value: torch.Tensor, real: Bools | None
    ) -> Ints:
        """The positions of new tokens, -1 for padding, `(batch, count)`; makes room at first."""
        plan = self.reader.plan
        batch, kv_heads, count, head_dim = key.shape
        if query is not None:
            _check_step(query, key, value, plan)
            if query.shape[2] != count:
                raise ValueError(f"key must have the {query.shape[2]} tokens of query, got {count}")
        if not len(self.position):
            shape = (batch, kv_heads, self.reader.most_live, head_dim)
            self.keys, self.values = key.new_zeros(shape), value.new_zeros(shape)
            self.position = np.zeros(batch, dtype=np.int64)
            self._slots = np.full((batch, plan.kv_len), -1, dtype=np.int32)
            self._free = [list(range(self.reader.most_live)) for _ in range(batch)]
        wanted = (*self.keys.shape[:2], count, self.keys.shape[3])
        if tuple(key.shape) != wanted:
            raise ValueError(f"key must have shape {wanted} as before, got {tuple(key.shape)}")
        there = np.ones((batch, count), dtype=np.bool_) if real is None else real
        if there.shape != (batch, count):
            raise ValueError(f"real must have shape {(batch, count)}, got {there.shape}")
        positions = np.where(there, self.position[:, None] + there.cumsum(1) - 1, -1)
        if positions.max() >= plan.query_len:
            raise ValueError(
                f"a sequence grows to {int(positions.max()) + 1} tokens, and the plan is for "
                f"{plan.query_len}; compile it for more"
            )
        return positions

    def _forget(self, last: Ints) -> None:
        """Make room of the keys whose last reader is at most `last`, for each sequence."""
        offsets, keys = self.reader.dying
        for element, stop in enumerate(last.tolist()):
            # What died before the token that came last was forgotten with it.
            start = max(0, int(self.position[element]) - 1)
            for dead in keys[offsets[start] : offsets[max(start, stop + 1)]]:
                slot = int(self._slots[element, dead])
                if slot >= 0:
                    self._slots[element, dead] = -1
                    self._free[element].append(slot)

    def _append(self, key: torch.Tensor, value: torch.Tensor, positions: Ints) -> None:
        """Forget what none after the new tokens reads, and keep the rest."""
        last = positions.max(1)
        self._forget(last)
        self._keep(key, value, positions, last + 1)

    def _keep(self, key: torch.Tensor, value: torch.Tensor, positions: Ints, needed: Ints) -> None:
        """Put away the new keys that a query from `needed` on reads, for each sequence."""
        last = self.reader.last_reader[np.maximum(positions, 0)]
        kept = (positions >= 0) & (last >= np.maximum(positions, needed[:, None]))
        element, number = np.nonzero(kept)
        slots = np.array([self._free[one].pop() for one in element.tolist()], dtype=np.int64)
        self._slots[element, positions[kept]] = slots
        where = [torch.from_numpy(x).to(key.device) for x in (element, slots, number)]
        with torch.no_grad():
            self.keys[where[0], :, where[1]] = key.detach()[where[0], :, where[2]]
            self.values[where[0], :, where[1]] = value.detach()[where[0], :, where[2]]


def _check_step(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Plan) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() != 4:
            raise ValueError(
                f"{name} must have shape (batch, heads, length, head_dim), got {tuple(x.shape)}"
            )
    batch, heads, _, head_dim = query.shape
    if heads != plan.num_heads:
        raise ValueError(f"query must have the {plan.num_heads} heads of the plan, got {heads}")
    if key.shape[0] != batch or heads % key.shape[1] or key.shape[3] != head_dim:
        raise ValueError(
            f"key must have shape ({batch}, a divisor of {heads}, length, {head_dim}), "
            f"got {tuple(key.shape)}"
        )
    if value.shape != key.shape:
        raise ValueError(
            f"value must have the shape of key, {tuple(key.shape)}, got {tuple(value.shape)}"
        )
    if plan.batch_size is not None and plan.batch_size != batch:
        raise ValueError(f"query must have the batch of the plan, {plan.batch_size}, got {batch}")
