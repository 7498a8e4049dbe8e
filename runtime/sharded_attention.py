"""Attention over several processes, which exchange only what their plan needs."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import torch

from attnloom.runtime.attention import attention as attend
from attnloom.runtime.checks import Arguments, check_arguments, dtype_to_run
from attnloom.runtime.exchange import Exchange, taken, tied
from attnloom.runtime.modifiers import with_sinks
from attnloom.runtime.sharded import Keys, ShardedPlan


class Part(NamedTuple):
    """What some keys give to queries: an output and its lse."""

    output: torch.Tensor
    lse: torch.Tensor


@overload
def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sharded_plan: ShardedPlan,
    *,
    scale: float | None = ...,
    softcap: float | None = ...,
    sinks: torch.Tensor | None = ...,
    key_lengths: torch.Tensor | None = ...,
    alibi_slopes: None = ...,
    return_lse: Literal[False] = ...,
    backend: str = ...,
) -> torch.Tensor: ...


@overload
def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sharded_plan: ShardedPlan,
    *,
    scale: float | None = ...,
    softcap: float | None = ...,
    sinks: torch.Tensor | None = ...,
    key_lengths: torch.Tensor | None = ...,
    alibi_slopes: None = ...,
    return_lse: Literal[True],
    backend: str = ...,
) -> tuple[torch.Tensor, torch.Tensor]: ...


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sharded_plan: ShardedPlan,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
    key_lengths: torch.Tensor | None = None,
    alibi_slopes: None = None,
    return_lse: bool = False,
    backend: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention over a sequence that is divided over processes; all of them must call it.

    The results are those of `attnloom.attention` over the whole sequence, up to rounding, and the
    same bits in every run. Each process receives the keys and values that its queries read, by one
    exchange; queries that read far more than most are sent round instead, and the results merged.
    All processes must also take part in the backward pass.

    Args:
        query: `(batch, heads, local_len, head_dim)`, at the positions of `sharded_plan`.
        key: `(batch, kv_heads, local_len, head_dim)`, likewise.
        value: like `key`.
        sharded_plan: this process's part of the plan.
        scale: as in `attnloom.attention`, and so the others.
        softcap: likewise.
        sinks: likewise; a process's gradients are those of its own queries, and are to be summed.
        key_lengths: likewise, of the whole sequence and the same in all processes.
        alibi_slopes: not supported.
        return_lse: likewise.
        backend: likewise.

    Returns:
        The output at the same positions, or `(output, lse)`.

    Raises:
        TypeError, ValueError: an argument is wrong; raised before anything is exchanged.
        ExchangeError: nothing came from another process in time; a `RuntimeError`.
    """
    _check(
        query, key, value, sharded_plan, scale, softcap, sinks, key_lengths, alibi_slopes, backend
    )
    call = _Call(
        sharded_plan, {"scale": scale, "softcap": softcap, "backend": backend}, key_lengths
    )
    # Cast under autocast, so that keys travel as small as they are used.
    output, lse = call.run(*(x.to(dtype_to_run(x)) for x in (query, key, value)))
    if sinks is not None:
        output, lse = with_sinks(output, lse, sinks)
    return (output, lse) if return_lse else output


class _Call(NamedTuple):
    """One call: what it is asked for, and how its steps follow each other."""

    shared: ShardedPlan
    options: dict[str, Any]
    key_lengths: torch.Tensor | None

    def run(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Part:
        """Every process starts and ends its exchanges in the same order, also backwards."""
        shared = self.shared
        coming = self._send_keys(key, value)
        asked = self._send_queries(query)
        rows = query
        if shared.own_slots is not None:
            rows = _placed(query, shared.own_slots, _num_rows(shared))
        got = None if coming is None or shared.overlaps else coming.end()
        found = self._near(rows, key, value, got)
        answers = None if asked is None else self._answer(asked, key, value)
        if coming is not None and shared.overlaps:
            found = self._with_far(found, rows, coming.end())
        if shared.own_slots is not None:
            found = Part(*(x.index_select(2, shared.own_slots) for x in found))
        if answers is None:
            return found
        output, lse = self._merged_answers(answers.end(), query.shape)
        return Part(
            found.output.index_copy(2, shared.long, output.to(found.output.dtype)),
            found.lse.index_copy(2, shared.long, lse),
        )

    # --- keys ---

    def _send_keys(self, key: torch.Tensor, value: torch.Tensor) -> Exchange | None:
        """The keys and values that others need, as rows `(keys, batch, 2 * kv_heads, head_dim)`."""
        if self.shared.keys_route is None:
            return None
        rows = [taken(x.movedim(2, 0), self.shared.sent) for x in (key, value)]
        return Exchange(torch.cat(rows, 2), self.shared.keys_route)

    def _near(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, got: torch.Tensor | None
    ) -> Part:
        """What its own keys give, and those received if they are there already."""
        if got is not None:
            far = got.movedim(0, 2).chunk(2, 1)
            key, value = (torch.cat(x, 2) for x in zip((key, value), far, strict=True))
        return self._attend(query, key, value, self.shared.near)

    def _with_far(self, near: Part, query: torch.Tensor, got: torch.Tensor) -> Part:
        """The same, and what the keys received give."""
        shared = self.shared
        if shared.far is None:
            # Nothing came, but the others wait for gradients of what was sent.
            return Part(tied(near.output, got), near.lse)
        rows, own = query, near
        if shared.far_rows is not None:
            rows = query.index_select(2, shared.far_rows)
            own = Part(*(x.index_select(2, shared.far_rows) for x in near))
        key, value = got.movedim(0, 2).chunk(2, 1)
        far = self._attend(rows, key, value, shared.far)
        output, lse = merged(*(torch.stack(x) for x in zip(own, far, strict=True)))
        output = output.to(near.output.dtype)
        if shared.far_rows is None:
            return Part(output, lse)
        return Part(
            near.output.index_copy(2, shared.far_rows, output),
            near.lse.index_copy(2, shared.far_rows, lse),
        )

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keys: Keys
    ) -> Part:
        if keys.slots is not None:
            key, value = (_placed(x, keys.slots, keys.num_slots) for x in (key, value))
        lengths = None
        if self.key_lengths is not None:
            # In slots that ascend, those below a length are the first ones.
            lengths = torch.searchsorted(keys.starts, self.key_lengths.to(torch.int64))
        return Part(
            *attend(
                query, key, value, keys.plan, key_lengths=lengths, return_lse=True, **self.options
            )
        )

    # --- long queries ---

    def _send_queries(self, query: torch.Tensor) -> Exchange | None:
        """The long queries to all processes, as rows `(queries, batch, heads, head_dim)`."""
        shared = self.shared
        if shared.long_keys is None:
            return None
        own = query.index_select(2, shared.long).movedim(2, 0)
        return Exchange(own.repeat(shared.ranks, 1, 1, 1), shared.long_route)

    def _answer(self, asked: Exchange, key: torch.Tensor, value: torch.Tensor) -> Exchange:
        """What this process's keys give to the long queries of all, sent back to them."""
        assert self.shared.long_keys is not None
        part = self._attend(asked.end().movedim(0, 2), key, value, self.shared.long_keys)
        rows = torch.cat([part.output.to(part.lse.dtype), part.lse[..., None]], -1).movedim(2, 0)
        return Exchange(rows, self.shared.long_route.back)

    def _merged_answers(self, rows: torch.Tensor, shape: torch.Size) -> Part:
        """Output and lse of this process's long queries, from the parts of all processes."""
        batch, heads, _, head_dim = shape
        ranks, own = self.shared.ranks, len(self.shared.long)
        parts = rows.reshape(ranks, own, batch, heads, head_dim + 1).movedim(1, 3)
        return merged(parts[..., :-1], parts[..., -1])


def _num_rows(shared: ShardedPlan) -> int:
    return shared.near.plan.query_len


def _placed(x: torch.Tensor, slots: torch.Tensor, count: int) -> torch.Tensor:
    """Rows in slots, of which there are so many; zeros in the others."""
    empty = x.new_zeros((*x.shape[:2], count, x.shape[3]))
    return empty.index_copy(2, slots, x)


def merged(outputs: torch.Tensor, logs: torch.Tensor) -> Part:
    """Attention over some keys from that over each of several sets of them, in order.

    Shapes:
        outputs: `(parts, ..., head_dim)`; logs: `(parts, ...)`

    >>> logs = torch.tensor([0.0, 0.0, -torch.inf]).log_softmax(0)
    >>> output, lse = merged(torch.tensor([[2.0], [4.0], [0.0]]), logs)
    >>> output.tolist(), lse.exp().tolist()
    ([3.0], 1.0)
    """
    most = logs.detach().amax(0)
    most = torch.where(most.isinf(), 0.0, most)
    weights = (logs - most).exp()
    total = weights.sum(0)
    some = total > 0
    safe = torch.where(some, total, 1.0)
    output = (weights[..., None] * outputs.to(logs.dtype)).sum(0) / safe[..., None]
    return Part(output, torch.where(some, safe.log() + most, -torch.inf))


def _check(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    shared: ShardedPlan,
    scale: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
    key_lengths: torch.Tensor | None,
    alibi_slopes: torch.Tensor | None,
    backend: str,
) -> None:
    """Raise before anything is exchanged."""
    if not isinstance(shared, ShardedPlan):
        raise TypeError(
            f"sharded_plan must be made by attnloom.distributed.shard, got {type(shared).__name__}"
        )
    check_arguments(
        Arguments(
            query, key, value, shared.near.plan, scale, backend, softcap, None, sinks, key_lengths,
            local_len=shared.local_len,
        )
    )  # fmt: skip
    if alibi_slopes is not None:
        raise ValueError(
            "alibi_slopes must be None over several processes: distances are not known there"
        )
    if key_lengths is not None and shared.reordered:
        raise ValueError(
            "key_lengths need the order of the positions: shard the plan with reorder=False"
        )
