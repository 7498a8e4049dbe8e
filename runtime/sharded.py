"""Plans over several processes: what each of them holds, sends and computes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple, overload

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.device_mesh import DeviceMesh

from attnloom.compiler.balance import BALANCES, Judge, Network, divide_heads
from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.passes import part_of_tiles
from attnloom.compiler.sharding import Division
from attnloom.runtime.calibration import model_for
from attnloom.runtime.exchange import Pick, Route, exchange
from attnloom.runtime.plan import Plan
from attnloom.runtime.plan_stack import PlanStack

Ints = NDArray[np.int64]


class Keys(NamedTuple):
    """A plan over keys that are not side by side: some slots may be empty.

    Shapes:
        slots: int64, where each key goes; starts: int64 `(num_slots,)`, the position that stands
        at each slot, or would; empty when slots are not in the order of the positions
    """

    plan: Plan
    slots: torch.Tensor | None
    starts: torch.Tensor

    @property
    def num_slots(self) -> int:
        return self.plan.kv_len


@dataclass(frozen=True, eq=False, repr=False)
class ShardedPlan:
    """One process's part of a plan. Made by `attnloom.distributed.shard`.

    `positions` are those of its queries, keys and values: `scatter` takes them from a whole
    sequence and `gather` puts a whole sequence together. They ascend unless the sequence is divided
    in an order of the pattern's, `reordered`. `division` knows the same of all processes.

    With `overlaps`, its own keys are worked on while those of others travel, by the plans `near`
    and `far`; else all together, by `near` alone.

    Shapes:
        positions: int64 `(local_len,)`
    """

    division: Division
    rank: int
    group: dist.ProcessGroup | None
    positions: torch.Tensor
    near: Keys
    far: Keys | None
    long_keys: Keys | None
    own_slots: torch.Tensor | None
    """Where each query goes, if some slots of queries are empty."""

    far_rows: torch.Tensor | None
    """The slots of the queries of `far`; `None` for all of them."""

    sent: Pick
    """Which of the own keys go to the others, process by process."""

    keys_route: Route | None
    """`None` where no process needs any key of another."""

    long: torch.Tensor
    """Which of the own queries are long."""

    long_route: Route
    """Of the long queries: from each process to every other."""

    overlaps: bool

    @property
    def local_len(self) -> int:
        """Tokens of this process, memory included."""
        return len(self.positions)

    @property
    def ranks(self) -> int:
        return self.division.ranks

    @property
    def reordered(self) -> bool:
        """Whether the sequence is divided in another order than that of the positions."""
        return self.division.order is not None

    @property
    def received_len(self) -> int:
        """How many keys this process receives."""
        return 0 if self.keys_route is None else sum(self.keys_route.received)

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
        if tensor.shape[dim] != self.local_len:
            raise ValueError(
                f"tensor must have the {self.local_len} positions of process {self.rank} in "
                f"dimension {dim}, got {tensor.shape[dim]}"
            )
        parts = tensor.movedim(dim, 0)
        positions = [self.division.positions(rank) for rank in range(self.ranks)]
        every = parts.repeat(self.ranks, *[1] * (parts.ndim - 1))
        counts = tuple(map(len, positions))
        found = exchange(every, Route((self.local_len,) * self.ranks, counts, self.group))
        place = torch.from_numpy(np.argsort(np.concatenate(positions))).to(tensor.device)
        return found.index_select(0, place).movedim(0, dim)

    def __deepcopy__(self, memo: dict[int, object]) -> ShardedPlan:
        return self  # immutable, so a copied model may share it

    def __repr__(self) -> str:
        tiles = self.near.plan.num_tiles + (0 if self.far is None else self.far.plan.num_tiles)
        return (
            f"ShardedPlan(process {self.rank} of {self.ranks}, {self.local_len} of "
            f"{self.division.length} positions{' in another order' * self.reordered}, receives "
            f"{self.received_len} keys, {len(self.division.long)} long queries, {tiles} tiles)"
        )


@overload
def shard(
    plan: Plan,
    mesh_or_group: DeviceMesh | dist.ProcessGroup | None = ...,
    *,
    balance: str = ...,
    reorder: bool = ...,
    overlap: bool | str = ...,
    model: CostModel | None = ...,
    network: Network | None = ...,
) -> ShardedPlan: ...


@overload
def shard(
    plan: PlanStack,
    mesh_or_group: DeviceMesh | dist.ProcessGroup | None = ...,
    *,
    balance: str = ...,
    reorder: bool = ...,
    overlap: bool | str = ...,
    model: CostModel | None = ...,
    network: Network | None = ...,
) -> tuple[ShardedPlan, ...]: ...


def shard(
    plan: Plan | PlanStack,
    mesh_or_group: DeviceMesh | dist.ProcessGroup | None = None,
    *,
    balance: str = "auto",
    reorder: bool = True,
    overlap: bool | str = "auto",
    model: CostModel | None = None,
    network: Network | None = None,
) -> ShardedPlan | tuple[ShardedPlan, ...]:
    """Divide a plan over the processes of a group; every one of them must call it.

    Args:
        plan: the plan of the whole sequence, the same in all processes, with square tiles; or those
            of all layers of a model, which are divided alike.
        mesh_or_group: a process group or a device mesh of one dimension (`mesh["context"]`); the
            default group when not given.
        balance: `"contiguous"`: neighbours, equally many; `"head_tail"`: a stretch from the front
            and one from the back, for causal patterns; `"cost"`: neighbours, equally much to
            compute; `"auto"`: the one for which the cost model predicts the shortest step.
        reorder: whether positions may be divided in an order of the pattern's, such as by residues,
            if the cost model predicts that to be faster.
        overlap: whether to work on a process's own keys while those of others travel; `"auto"`
            where the cost model predicts that it pays, and never on a CPU.
        model: what things cost, in place of what `attnloom calibrate` measured on process 0's
            device; that of process 0 counts.
        network: what it costs to exchange keys; likewise.

    Returns:
        This process's part; a tuple of those of each layer for a `PlanStack`.

    Raises:
        ValueError: an argument is wrong, there are more processes than tiles, tiles are not square,
            or another process has another plan, length, version or option; it is named.

    Example, under `torchrun`, with each process holding the whole `query`, `key` and `value`:
        `sharded = attnloom.distributed.shard(plan)`
        `q, k, v = (sharded.scatter(x) for x in (query, key, value))`
        `output = sharded.gather(attnloom.distributed.attention(q, k, v, sharded))`
    """
    if balance not in BALANCES:
        raise ValueError(f"balance must be one of {', '.join(BALANCES)}, got {balance!r}")
    if overlap not in (True, False, "auto"):
        raise ValueError(f"overlap must be True, False or 'auto', got {overlap!r}")
    stack = PlanStack((plan,), (0,)) if isinstance(plan, Plan) else plan
    group = _group_of(mesh_or_group)
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    costs = _agreed(
        stack, group, ranks,
        {"balance": balance, "reorder": reorder, "overlap": overlap},
        (model or model_for(stack.plans[0].device), network or Network()),
    )  # fmt: skip
    layouts = [layout for one in stack.plans for layout in one.layouts]
    uses = [use for one in stack.plans for use in one.uses]
    division = divide_heads(
        layouts, ranks, balance, reorder=reorder, uses=uses, model=costs[0], network=costs[1]
    )
    parts, first = [], 0
    for one in stack.plans:
        own = division.restricted(range(first, first + len(one.layouts)))
        first += len(one.layouts)
        pays = bool(overlap)
        if overlap == "auto":
            # On a CPU the cores that would compute are those that carry the keys.
            pays = one.device.type != "cpu" and overlap_pays(own, one.uses, *costs)
        parts.append(part_of(own, one, rank, group, overlaps=pays, model=costs[0]))
    if isinstance(plan, Plan):
        return parts[0]
    return tuple(parts[number] for number in stack.plan_of_layer)


def overlap_pays(
    division: Division, uses: Sequence[int], model: CostModel, network: Network
) -> bool:
    """Whether more is gained by computing while keys travel than is lost by merging two parts."""
    judge = Judge(max(1, sum(uses)), model, network)
    unit = model.seconds_per_tile / model.processors * (division.unit / 128) ** 2
    gains = []
    for rank in range(min(division.ranks, _MOST_JUDGED)):
        near = sum(
            use * layout.num_tiles
            for use, layout in zip(uses, division.near_layouts(rank), strict=True)
        )
        received = float(division.received_tokens()[rank])
        travelling = network.seconds(received, judge.heads) if received else 0.0
        far = len(division.far_units(rank)) * judge.heads * (model.merge + model.item)
        gains.append(min(near * unit, travelling / 2) - far * unit)
    return max(gains) > 0


_MOST_JUDGED = 16
"""Processes that are looked at for this."""


def part_of(
    division: Division,
    plan: Plan,
    rank: int,
    group: dist.ProcessGroup | None = None,
    *,
    overlaps: bool = False,
    model: CostModel | None = None,
) -> ShardedPlan:
    """What one process does of a divided plan; asks no other process."""
    device, ranks = plan.device, division.ranks
    model = model or model_for(device)

    def on_device(index: Ints | None) -> torch.Tensor | None:
        return None if index is None else torch.from_numpy(index).to(device)

    def plan_of(layouts: Sequence[BlockLayout]) -> Plan:
        heads = plan.num_heads
        return Plan.from_layouts(
            [_head_layout(layout, heads, model) for layout in layouts],
            plan.layout_of_head.cpu().numpy(),
            device=device,
            description=plan.description,
        )

    def keys(layouts: Sequence[BlockLayout], units: Ints, slots: Ints | None) -> Keys:
        starts = np.zeros(0, dtype=np.int64)
        if division.order is None:
            starts = (units[:, None] * division.unit + np.arange(division.unit)).reshape(-1)
            starts = starts[: layouts[0].kv_len]
        return Keys(plan_of(layouts), on_device(slots), torch.from_numpy(starts).to(device))

    own, positions = division.units(rank), division.positions(rank)
    own_slots = division.own_slots(rank)
    received, counts = division.received(rank), division.received_counts(rank)
    sent, sent_counts = division.sent(rank)
    far_units = division.far_units(rank)
    far, far_rows = None, None
    if overlaps or not len(division.needs.rank):
        near = keys(division.near_layouts(rank), own, own_slots)
        if len(far_units):
            needed = division.needed(rank)
            far = keys(division.far_layouts(rank), needed, division.slots(needed, received))
        if len(far_units) != len(own):
            num_slots = division.num_slots(own)
            rows = (far_units[:, None] * division.unit + np.arange(division.unit)).reshape(-1)
            rows = division.slots(own, rows)
            far_rows = rows[rows < num_slots]
    else:
        every = division.all_units(rank)
        both = np.concatenate([division.places_of(own), received])
        near = keys(division.all_layouts(rank), every, division.slots(every, both))
    long_counts = tuple(len(division.long_of(one)) for one in range(ranks))
    return ShardedPlan(
        division,
        rank,
        group,
        torch.from_numpy(positions).to(device),
        near,
        far,
        keys(division.long_layouts(rank), own, own_slots) if len(division.long) else None,
        on_device(own_slots),
        on_device(far_rows),
        Pick.of(division.local(rank, sent), device),
        Route(tuple(sent_counts.tolist()), tuple(counts.tolist()), group)
        if len(division.needs.rank)
        else None,
        torch.from_numpy(division.local(rank, division.long_of(rank))).to(device),
        Route((long_counts[rank],) * ranks, long_counts, group),
        overlaps,
    )


def _head_layout(layout: BlockLayout, heads: int, model: CostModel) -> HeadLayout:
    sizes = layout.query_len, layout.kv_len, layout.block_m, layout.block_n
    return HeadLayout(*sizes, (part_of_tiles(layout, heads, model),))


def _group_of(given: DeviceMesh | dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    if isinstance(given, DeviceMesh):
        if given.ndim != 1:
            raise ValueError(
                f"mesh_or_group must be a mesh of one dimension, got {given.ndim}; name one: "
                f"mesh[{(given.mesh_dim_names or ('context',))[-1]!r}]"
            )
        return given.get_group()
    return given


def _agreed(
    stack: PlanStack,
    group: dist.ProcessGroup | None,
    ranks: int,
    options: dict[str, Any],
    costs: tuple[CostModel, Network],
) -> tuple[CostModel, Network]:
    """Raise in every process unless all have the same plans and options; the costs of the first."""
    digest = hashlib.sha256(repr(stack.plan_of_layer).encode())
    for plan in stack.plans:
        for layout in plan.layouts:
            digest.update(layout.fingerprint())
        digest.update(plan.layout_of_head.cpu().numpy().tobytes())
    described = stack.plans[0].description
    own = {
        "version": f"attnloom {version('attnloom')}, torch {torch.__version__}",
        "length": stack.plans[0].query_len,
        "pattern": f"{described.get('pattern', 'a pattern')} with {described.get('params', {})}",
        "plan": digest.hexdigest()[:16],
        **options,
    }
    every: list[Any] = [None] * ranks
    dist.all_gather_object(every, (own, costs), group=group)
    for name in own:
        given = [one[name] for one, _ in every]
        usual = Counter(given).most_common(1)[0][0]
        others = [rank for rank, one in enumerate(given) if one != usual]
        if others:
            raise ValueError(
                f"process {others[0]} has another {name} than process {given.index(usual)}: "
                f"{given[others[0]]}, not {usual}"
                + (f"; so have {', '.join(map(str, others[1:]))}" if len(others) > 1 else "")
            )
    agreed: tuple[CostModel, Network] = every[0][1]
    return agreed
