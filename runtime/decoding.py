"""Decoding: a few new tokens of a sequence that grows, along a causal plan.

A plan of `n` tokens says what each of `n` positions reads, so one plan serves all steps up to `n`.
A key is *live* as long as a later token may read it; a `Decoder` keeps the live ones and no others.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.runtime.key_store import KeyStore
from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.plan import Plan
from attnloom.runtime.row_attention import attention_rows
from attnloom.runtime.row_reader import Bools, HeadGroup, Ints, RowReader, reads_ahead


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
    modifiers = Modifiers.of(
        query, scale=scale, softcap=softcap, alibi_slopes=alibi_slopes, sinks=sinks
    )
    return attention_rows(query, key, value, reader, np.maximum(positions, -1), modifiers)


class Decoder:
    """The keys and values that the tokens to come may still read; no gradients go through it.

    Each sequence of the batch has its own next position, so sequences may have been padded. Each
    head of the keys keeps its own: in DuoAttention the streaming heads stay small, and those that
    read everything grow. There are never more keys than the analysis says, `kv_cache`.

    >>> import attnloom
    >>> pattern = attnloom.load("duo_attention", dense=1, sinks=4, recent=60)
    >>> decoder = pattern.compile(10_000, heads=2).decoder()
    >>> for _ in range(1000):
    ...     query, key, value = torch.randn(3, 1, 2, 1, 8)
    ...     output = decoder.step(query, key, value)
    >>> decoder.num_kept.tolist(), decoder.position.tolist()
    ([[1000, 64]], [1000])

    Args:
        reader: of the plan.
        undo: how many tokens `take_back` may take back; so many more keys are kept.

    Raises:
        ValueError: the plan is not causal.

    Shapes:
        position: int64 `(batch,)`, how many real tokens each sequence has had
    """

    def __init__(self, reader: RowReader, *, undo: int = 0) -> None:
        if any(map(reads_ahead, reader.plan.layouts)):
            raise ValueError(
                "plan must be causal to be decoded along, and some query reads a later key; "
                "`only causal` in the pattern removes such"
            )
        if undo < 0:
            raise ValueError(f"undo must be at least 0, got {undo}")
        self.reader, self.undo = reader, undo
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.position: Ints = np.zeros(0, dtype=np.int64)
        self.groups: list[HeadGroup] = []
        self.stores: list[KeyStore] = []

    @property
    def is_empty(self) -> bool:
        """Whether no token has come yet."""
        return not self.position.any()

    @property
    def num_kept(self) -> Ints:
        """How many keys each head of the keys keeps of each sequence, `(batch, kv_heads)`."""
        kv_heads = sum(len(group.kv_heads) for group in self.groups)
        found = np.zeros((len(self.position), kv_heads), dtype=np.int64)
        for group, store in zip(self.groups, self.stores, strict=True):
            found[:, group.kv_heads] = store.num_kept[:, None]
        return found

    @property
    def num_bytes(self) -> int:
        """Bytes of all keys and values, and of the room that is left for more."""
        return sum(store.num_bytes for store in self.stores)

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
        _check_step(query, key, value, self.reader.plan)
        if query.shape[2] != key.shape[2]:
            raise ValueError(
                f"key must have the {query.shape[2]} tokens of query, got {key.shape[2]}"
            )
        positions = self._positions(key, value, real)
        modifiers = Modifiers.of(
            query, scale=scale, softcap=softcap, alibi_slopes=alibi_slopes, sinks=sinks
        )
        if len(self.stores) == 1:
            output = self.stores[0].step(query, key, value, positions, modifiers, self.undo)
        else:
            output = torch.empty_like(query)
            for group, store in zip(self.groups, self.stores, strict=True):
                heads = torch.from_numpy(group.heads).to(query.device)
                output[:, heads] = store.step(
                    query[:, heads], group.pick(key), group.pick(value), positions,
                    modifiers.of_heads(heads), self.undo,
                )  # fmt: skip
        self.position = np.maximum(self.position, positions.max(1) + 1)
        return output

    def append(self, key: torch.Tensor, value: torch.Tensor, *, real: Bools | None = None) -> None:
        """Keep what is needed of new tokens, whose attention is worked out elsewhere."""
        positions = self._positions(key, value, real)
        for group, store in zip(self.groups, self.stores, strict=True):
            store.append(group.pick(key), group.pick(value), positions, self.undo)
        self.position = np.maximum(self.position, positions.max(1) + 1)

    def take_back(self, count: int) -> None:
        """Take back the last tokens of every sequence, as if they had not come.

        Raises:
            ValueError: keys that the tokens before them need have been forgotten.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        since = self.position - count
        if any((since < store.since).any() for store in self.stores):
            raise ValueError(
                f"{count} tokens cannot be taken back, for keys that were read before them have "
                f"been forgotten; make the decoder with undo={count}"
            )
        for store in self.stores:
            store.take_back(since)
        self.position = since

    def settle(self) -> None:
        """Keep no longer what was only kept to take tokens back."""
        for store in self.stores:
            store.forget(self.position)
            store.shrink()

    def select(self, elements: torch.Tensor | NDArray[np.int64]) -> None:
        """Keep some sequences, perhaps several times over, as beam search does."""
        if not len(self.position):
            return
        chosen = torch.as_tensor(elements)
        self.position = self.position[chosen.cpu().numpy()]
        for store in self.stores:
            store.select(chosen.to(store.keys.device))

    def _positions(self, key: torch.Tensor, value: torch.Tensor, real: Bools | None) -> Ints:
        """The positions of new tokens, -1 for padding, `(batch, count)`; makes stores at first."""
        plan = self.reader.plan
        batch, kv_heads, count, _ = key.shape
        if not len(self.position):
            self.groups = self.reader.groups(kv_heads)
            self.position = np.zeros(batch, dtype=np.int64)
            self.stores = [
                KeyStore(group.reader, group.pick(key), group.pick(value)) for group in self.groups
            ]
        before = len(self.position), sum(len(group.kv_heads) for group in self.groups)
        wanted = (*before, count, self.stores[0].keys.shape[3])
        if tuple(key.shape) != wanted:
            raise ValueError(f"key must have shape {wanted} as before, got {tuple(key.shape)}")
        if key.dtype != self.stores[0].keys.dtype:
            raise TypeError(
                f"key must have dtype {self.stores[0].keys.dtype} as before, got {key.dtype}"
            )
        there = np.ones((batch, count), dtype=np.bool_) if real is None else real
        if there.shape != (batch, count):
            raise ValueError(f"real must have shape {(batch, count)}, got {there.shape}")
        positions = np.where(there, self.position[:, None] + there.cumsum(1) - 1, -1)
        if positions.max() >= plan.query_len:
            raise ValueError(
                f"a sequence grows to {int(positions.max()) + 1} tokens, and the plan is for "
                f"{plan.query_len}; compile it for more, or give a cache a larger max_length"
            )
        return positions


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
