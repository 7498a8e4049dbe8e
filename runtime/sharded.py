"""Plans over several processes, and attention that exchanges only what they need."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from attnloom.compiler.grid import grid_of
from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.passes import part_of_tiles
from attnloom.compiler.sharding import BALANCES, Division, divide
from attnloom.runtime.attention import attention as attend
from attnloom.runtime.calibration import model_for
from attnloom.runtime.plan import Plan


@dataclass(frozen=True, eq=False, repr=False)
class ShardedPlan:
    """One process's part of a plan. Made by `attnloom.distributed.shard`.

    `positions` are those of its queries, keys and values, ascending; `scatter` takes them from a
    whole sequence and `gather` puts a whole sequence together. `division` knows the same of all
    processes.

    Shapes:
        positions: int64 `(local_len,)`
    """

    division: Division
    rank: int
    group: dist.ProcessGroup | None
    positions: torch.Tensor
    plan: Plan
    long_plan: Plan | None
    sent: torch.Tensor
    """Which of the own keys go to the others, process by process."""

    sent_counts: tuple[int, ...]
    received_counts: tuple[int, ...]
    places: torch.Tensor
    """For each key of `plan`, which it is of the own ones and those received; or one beyond."""

    long: torch.Tensor
    """Which of the own queries are long."""

    long_counts: tuple[int, ...]

    @property
    def local_len(self) -> int:
        """Tokens of this process, memory included."""
        return len(self.positions)

    @property
    def ranks(self) -> int:
        return self.division.ranks

    def scatter(self, tensor: torch.Tensor, dim: int = -2) -> torch.Tensor:
        """This process's part of a tensor over the whole sequence, which every process has."""
        if tensor.shape[dim] != self.division.length:
            raise ValueError(
                f"tensor must have the {self.division.length} positions of the plan in dimension "
                f"{dim}, got {tensor.shape[dim]}"
            )
        return tensor.index_select(dim, self.positions.to(tensor.device))

    def gather(self, tensor: torch.Tensor, dim: int = -2) -> torch.Tensor:
        """The whole sequence, on every process, from each one's part; differentiable."""
        self._check_length("tensor", tensor.shape[dim])
        parts = tensor.movedim(dim, 0)
        counts = [len(self.division.positions(rank)) for rank in range(self.ranks)]
        every = parts.repeat(self.ranks, *[1] * (parts.ndim - 1))
        own = [self.local_len] * self.ranks
        found = exchange(every, own, counts, self.group)
        order = np.concatenate([self.division.positions(rank) for rank in range(self.ranks)])
        place = torch.from_numpy(np.argsort(order)).to(tensor.device)
        return found.index_select(0, place).movedim(0, dim)

    def _check_length(self, name: str, length: int) -> None:
        if length != self.local_len:
            raise ValueError(
                f"{name} must have the {self.local_len} positions of process {self.rank}, "
                f"got {length}"
            )

    def __repr__(self) -> str:
        received = sum(self.received_counts)
        return (
            f"ShardedPlan(process {self.rank} of {self.ranks}, {self.local_len} of "
            f"{self.division.length} positions, receives {received} keys, "
            f"{sum(self.long_counts)} long queries, {self.plan.num_tiles} tiles)"
        )


def shard(
    plan: Plan,
    mesh_or_group: DeviceMesh | dist.ProcessGroup | None = None,
    *,
    balance: str = "auto",
) -> ShardedPlan:
    """Divide a plan over the processes of a group; every one of them must call it.

    Args:
        plan: the plan of the whole sequence, the same in all processes, with square tiles.
        mesh_or_group: a process group or a device mesh of one dimension (`mesh["context"]`); the
            default group when not given.
        balance: `"contiguous"`: neighbours, equally many; `"head_tail"`: a stretch from the front
            and one from the back, for causal patterns; `"cost"`: neighbours, equally much to
            compute; `"auto"`: the first of them that is even, or the most even.

    Raises:
        ValueError: `balance` is not one of these, there are more processes than tiles, tiles are
            not square, or another process has another plan or version; it is named.

    Example, under `torchrun`, with each process holding the whole `query`, `key` and `value`:
        `sharded = attnloom.distributed.shard(plan)`
        `q, k, v = (sharded.scatter(x) for x in (query, key, value))`
        `output = sharded.gather(attnloom.distributed.attention(q, k, v, sharded))`
    """
    if balance not in BALANCES:
        raise ValueError(f"balance must be one of {', '.join(BALANCES)}, got {balance!r}")
    group = _group_of(mesh_or_group)
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    _compare(plan, balance, group, ranks)
    grids = [grid_of(layout) for layout in plan.layouts]
    division = divide(grids, ranks, balance, uses=plan.uses, model=model_for(plan.device))
    return part_of(division, plan, rank, group)


def part_of(
    division: Division, plan: Plan, rank: int, group: dist.ProcessGroup | None = None
) -> ShardedPlan:
    """What one process does of a divided plan; asks no other process."""
    device, ranks = plan.device, division.ranks
    model = model_for(device)

    def plan_of(layouts: Sequence[BlockLayout]) -> Plan:
        heads = plan.num_heads
        return Plan.from_layouts(
            [_head_layout(layout, heads, model) for layout in layouts],
            plan.layout_of_head.cpu().numpy(),
            device=device,
            description=plan.description,
        )

    positions = division.positions(rank)
    local = np.full(division.length, -1)
    local[positions] = np.arange(len(positions))
    sent = [division.positions_of(division.sent(rank, to)) for to in range(ranks)]
    needed = division.needed(rank)
    lengths = division.lengths(needed)
    received = np.bincount(division.owner[needed], weights=lengths, minlength=ranks)
    long_counts = tuple(len(division.long_of(one)) for one in range(ranks))
    return ShardedPlan(
        division,
        rank,
        group,
        torch.from_numpy(positions).to(device),
        plan_of(division.layouts(rank)),
        plan_of(division.long_layouts(rank)) if len(division.long) else None,
        torch.from_numpy(local[np.concatenate(sent)]).to(device),
        tuple(len(one) for one in sent),
        tuple(int(count) for count in received),
        torch.from_numpy(_places(division, rank)).to(device),
        torch.from_numpy(local[division.long_of(rank)]).to(device),
        long_counts,
    )


def _head_layout(layout: BlockLayout, heads: int, model: CostModel) -> HeadLayout:
    sizes = layout.query_len, layout.kv_len, layout.block_m, layout.block_n
    return HeadLayout(*sizes, (part_of_tiles(layout, heads, model),))


def _places(division: Division, rank: int) -> np.ndarray:
    """Units stand in whole tiles; behind a short one there is nothing."""
    lengths = division.lengths(np.concatenate([division.units(rank), division.needed(rank)]))
    total = int(lengths.sum())
    first = np.cumsum(lengths) - lengths
    within = np.arange(division.unit)
    return np.where(within < lengths[:, None], first[:, None] + within, total).reshape(-1)


def _group_of(given: DeviceMesh | dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    if isinstance(given, DeviceMesh):
        if given.ndim != 1:
            raise ValueError(
                f"mesh_or_group must be a mesh of one dimension, got {given.ndim}; name one: "
                f"mesh[{(given.mesh_dim_names or ('context',))[-1]!r}]"
            )
        return given.get_group()
    return given


def _compare(plan: Plan, balance: str, group: dist.ProcessGroup | None, ranks: int) -> None:
    """Raise in every process unless all have the same plan."""
    digest = hashlib.sha256(b"".join(layout.fingerprint() for layout in plan.layouts))
    digest.update(plan.layout_of_head.cpu().numpy().tobytes())
    own = {
        "version": version("attnloom"),
        "length": plan.query_len,
        "balance": balance,
        "plan": digest.hexdigest()[:16],
    }
    every: list[Any] = [None] * ranks
    dist.all_gather_object(every, own, group=group)
    for rank, other in enumerate(every):
        for name, value in every[0].items():
            if other[name] != value:
                raise ValueError(
                    f"process {rank} has another {name} than process 0: {other[name]}, not {value}"
                )


# --- attention -----------------------------------------------------------------------------------


class _Exchange(torch.autograd.Function):
    """Rows to other processes and rows from them; gradients go the other way."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        sent: Sequence[int],
        received: Sequence[int],
        group: dist.ProcessGroup | None,
    ) -> torch.Tensor:
        ctx.back = list(received), list(sent), group
        found = rows.new_empty((sum(received), *rows.shape[1:]))
        dist.all_to_all_single(found, rows.contiguous(), list(received), list(sent), group=group)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        sent, received, group = ctx.back
        return exchange(grads[0], sent, received, group), None, None, None


def exchange(
    rows: torch.Tensor,
    sent: Sequence[int],
    received: Sequence[int],
    group: dist.ProcessGroup | None,
) -> torch.Tensor:
    """Send the first `sent[0]` rows to process 0, and so on; what came, process by process."""
    found: torch.Tensor = _Exchange.apply(rows, sent, received, group)  # type: ignore[no-untyped-call]
    return found


@overload
def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sharded_plan: ShardedPlan,
    *,
    scale: float | None = ...,
    softcap: float | None = ...,
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
    return_lse: bool = False,
    backend: str = "auto",
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention over a sequence that is divided over processes; all of them must call it.

    The results are those of `attnloom.attention` over the whole sequence, up to rounding, and the
    same bits in every run. Each process receives the keys and values that its queries read, by one
    exchange; queries that read far more than most are sent round instead, and the results merged.

    Args:
        query: `(batch, heads, local_len, head_dim)`, at the positions of `sharded_plan`.
        key: `(batch, kv_heads, local_len, head_dim)`, likewise.
        value: like `key`.
        sharded_plan: this process's part of the plan.
        scale: as in `attnloom.attention`, and so the others.
        softcap: likewise.
        return_lse: likewise.
        backend: likewise.

    Returns:
        The output at the same positions, or `(output, lse)`.

    Raises:
        TypeError, ValueError: an argument is wrong; raised before anything is exchanged.
    """
    shared = sharded_plan
    _check(query, key, value, shared)
    options: dict[str, Any] = {"scale": scale, "softcap": softcap, "backend": backend}
    keys_and_values = torch.cat([key, value], 1).movedim(2, 0)
    got = exchange(
        keys_and_values.index_select(0, shared.sent),
        shared.sent_counts,
        shared.received_counts,
        shared.group,
    )
    nothing = got.new_zeros((1, *got.shape[1:]))
    every = torch.cat([keys_and_values, got, nothing]).index_select(0, shared.places).movedim(0, 2)
    near_key, near_value = every.chunk(2, 1)
    output, lse = attend(
        query, near_key, near_value, shared.plan, return_lse=True, **options
    )  # fmt: skip
    if shared.long_plan is not None:
        rows, logs = _long_rows(query, key, value, shared, options)
        output = output.index_copy(2, shared.long, rows.to(output.dtype))
        lse = lse.index_copy(2, shared.long, logs.to(lse.dtype))
    return (output, lse) if return_lse else output


def _long_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    shared: ShardedPlan,
    options: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and lse of this process's long queries: parts from every process, merged in order."""
    assert shared.long_plan is not None
    own, ranks, counts = len(shared.long), shared.ranks, shared.long_counts
    queries = query.index_select(2, shared.long).movedim(2, 0)
    every = exchange(queries.repeat(ranks, 1, 1, 1), [own] * ranks, counts, shared.group)
    output, lse = attend(
        every.movedim(0, 2), key, value, shared.long_plan, return_lse=True, **options
    )  # fmt: skip
    parts = torch.cat([output.to(lse.dtype), lse[..., None]], -1).movedim(2, 0)
    got = exchange(parts, counts, [own] * ranks, shared.group)
    got = got.reshape(ranks, own, *got.shape[1:]).movedim(1, 3)  # ranks, batch, heads, own, numbers
    outputs, logs = got[..., :-1], got[..., -1]
    most = logs.detach().amax(0)
    most = torch.where(most.isinf(), 0.0, most)
    weights = (logs - most).exp()
    total = weights.sum(0)
    some = total > 0
    safe = torch.where(some, total, 1.0)
    merged = (weights[..., None] * outputs).sum(0) / safe[..., None]
    return merged, torch.where(some, safe.log() + most, -torch.inf)


def _check(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shared: ShardedPlan
) -> None:
    if not isinstance(shared, ShardedPlan):
        raise TypeError(
            f"sharded_plan must be made by attnloom.distributed.shard, got {type(shared).__name__}"
        )
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
        if tensor.ndim != 4:
            raise ValueError(f"{name} must have 4 dimensions, got shape {tuple(tensor.shape)}")
        shared._check_length(name, tensor.shape[2])
    if key.shape != value.shape:
        raise ValueError(
            f"value must have the shape of key, {tuple(key.shape)}, got {tuple(value.shape)}"
        )
