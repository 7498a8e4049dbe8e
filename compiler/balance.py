"""Who gets which part of a sequence: candidates, and the cost model that chooses among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.grid import grid_of, same_order
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.sharding import Division
from attnloom.compiler.tiles import NO_PLACE

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BALANCES = ("auto", "contiguous", "head_tail", "cost")

_CLEARLY = 0.97
"""A candidate is taken in place of a simpler one if it takes less than this share of its time."""

_HEAD_DIM = 64
"""For which costs are predicted; all of them grow with it likewise."""

_BACKWARD = 2.5
"""What the backward pass computes, in forward passes."""

_PER_TOKEN = 24 * _HEAD_DIM**2 / (4 * 128**2 * _HEAD_DIM)
"""Projections and MLP of a layer, for a token, a head and each head of the model: in full tiles."""

_LONG_AS_KEYS = 1.5
"""What a long query costs to send round, as many keys: it in 16 bits, and its results in 32."""

_LESS_LONG = 3
"""A query may also count as long when it reads so many times as much as half of them."""

MOST_ORDERED = 1 << 22
"""Positions up to which orders are tried."""

_LONG_ROW = 8
"""A row of tiles with so many times as many tiles as half of the rows holds long queries."""


@dataclass(frozen=True)
class Network:
    """What joins the processes; the defaults describe links between large GPUs."""

    bytes_per_second: float = 50e9
    """That a process receives."""

    latency: float = 20e-6
    """Seconds for an exchange, however little travels."""

    def seconds(self, tokens: float, heads: int) -> float:
        """For keys, values and their gradients of so many tokens and heads, in 16-bit numbers."""
        return 2 * self.latency + tokens * heads * 2 * 2 * 2 * _HEAD_DIM / self.bytes_per_second


@dataclass(frozen=True)
class Judge:
    """Predicts the time of a step of a layer: of the process that takes longest.

    Tokens count too, for the rest of the layer: a process with most of them would hold up all.
    """

    heads: int
    model: CostModel
    network: Network

    def seconds(self, tiles: Floats, tokens: Ints, received: Floats, unit: int) -> float:
        """From what each process computes, in tiles, has, and receives, `(ranks,)` each."""
        each = self.model.seconds_per_tile * (1 + _BACKWARD) / self.model.processors
        work = tiles * (unit / 128) ** 2 + tokens * _PER_TOKEN * self.heads**2
        moving = [self.network.seconds(float(one), self.heads) for one in received]
        return float((work * each + np.array(moving) * (received.max() > 0)).max())

    def of(self, division: Division, uses: Sequence[int]) -> float:
        """For a division, whose layouts so many heads follow."""
        tokens = tokens_of(division)
        tiles = division.costs(uses, self.model.partial)
        received = division.received_tokens().astype(np.float64)
        if len(division.long):
            owner = division.owner[division.long // division.unit]
            others = len(owner) - np.bincount(owner, minlength=division.ranks)
            received += _LONG_AS_KEYS * others
        return self.seconds(tiles, tokens, received, division.unit)


def tokens_of(division: Division) -> Ints:
    """How many tokens each process has, `(ranks,)`."""
    lengths = division.lengths(np.arange(len(division.owner)))
    return np.bincount(division.owner, lengths, minlength=division.ranks).astype(np.int64)


def divide(
    grids: Sequence[BlockLayout],
    ranks: int,
    balance: str = "auto",
    *,
    order: NDArray[np.int32] | None = None,
    uses: Sequence[int] | None = None,
    model: CostModel | None = None,
    network: Network | None = None,
) -> Division:
    """Divide layouts over processes.

    Args:
        grids: the different layouts, with square tiles.
        ranks: how many processes.
        balance: one of `BALANCES`; `"auto"` is the one for which the cost model predicts the
            shortest step, the first of them unless another is clearly better.
        order: the order whose places the layouts are over, if they are.
        uses: how many heads follow each layout; one each when not given.
        model: what tiles cost; a large GPU when not given.
        network: what it costs to exchange keys.

    Raises:
        ValueError: as `Division.of`.

    >>> import attnloom
    >>> grids, _ = attnloom.parse("pattern p { causal }").layouts(1 << 15)
    >>> divide(grids, 4).owner.reshape(8, -1)[:, 0].tolist()
    [0, 1, 2, 3, 3, 2, 1, 0]
    """
    uses = list(uses or [1] * len(grids))
    judge = Judge(max(1, sum(uses)), model or CostModel(), network or Network())
    makers = _makers(grids, ranks, uses, judge)
    owners = [make() for name, make in makers.items() if balance in ("auto", name)]
    some = [owner for owner in owners if len(np.unique(owner)) == ranks]
    divisions = (Division.of(grids, owner, ranks, order) for owner in some or owners[:1])
    best = _fastest(divisions, judge, uses)
    shorter = Division.of(grids, best.owner, ranks, order, long=_LESS_LONG)
    return best if len(shorter.long) == len(best.long) else _fastest([best, shorter], judge, uses)


def _fastest(divisions: Iterable[Division], judge: Judge, uses: Sequence[int]) -> Division:
    """The first division, unless another is clearly better."""
    best: tuple[float, Division] | None = None
    for division in divisions:
        seconds = judge.of(division, uses)
        if best is None or seconds < _CLEARLY * best[0]:
            best = seconds, division
    assert best is not None
    return best[1]


def divide_heads(
    layouts: Sequence[HeadLayout],
    ranks: int,
    balance: str = "auto",
    *,
    reorder: bool = True,
    uses: Sequence[int] | None = None,
    model: CostModel | None = None,
    network: Network | None = None,
) -> Division:
    """Divide what heads compute, in the order of the positions or in one that a part is in.

    A dilated window has its neighbours among positions of one residue, a neighbourhood in a grid
    of cells among tiles of cells; a process that owns such a group needs few keys of others.

    Args:
        layouts: of the different heads.
        ranks: how many processes.
        balance: as in `divide`.
        reorder: whether to try orders at all.
        uses: as in `divide`, and so the others.
        model: likewise.
        network: likewise.

    Raises:
        ValueError: as `Division.of`.
    """
    uses = list(uses or [1] * len(layouts))
    judge = Judge(max(1, sum(uses)), model or CostModel(), network or Network())
    orders = [None, *_promising(layouts, ranks, uses, judge)] if reorder else [None]

    def divided(order: NDArray[np.int32] | None) -> Division:
        grids = [grid_of(layout, order) for layout in layouts]
        return divide(
            grids, ranks, balance, order=order, uses=uses, model=judge.model, network=judge.network
        )

    return _fastest(map(divided, orders), judge, uses)


def _makers(
    grids: Sequence[BlockLayout], ranks: int, uses: Sequence[int], judge: Judge
) -> dict[str, Callable[[], Ints]]:
    """The ways to divide, the simplest first."""
    units = grids[0].num_query_blocks

    def costs() -> Floats:
        found = np.full(units, grids[0].block_m * _PER_TOKEN * judge.heads**2)
        for grid, use in zip(grids, uses, strict=True):
            each = np.where(grid.mask_ids == FULL, 1.0, judge.model.partial)
            scale = (grid.block_m / 128) ** 2
            found += use * scale * np.bincount(grid.tile_rows(), each, minlength=units)
        return found

    return {
        "contiguous": lambda: contiguous(units, ranks),
        "head_tail": lambda: head_tail(units, ranks),
        "cost": lambda: by_cost(costs(), ranks),
    }


def contiguous(units: int, ranks: int) -> Ints:
    """Each process has neighbours, and as many as the others to within one.

    >>> contiguous(5, 2).tolist()
    [0, 0, 1, 1, 1]
    """
    return -(-(np.arange(units) + 1) * ranks // units) - 1


def head_tail(units: int, ranks: int) -> Ints:
    """Each process has a stretch of the first half, and its mirror image in the second.

    Causal rows, which grow, then come to the same for all.

    >>> head_tail(8, 2).tolist()
    [0, 0, 1, 1, 1, 1, 0, 0]
    """
    stretch = contiguous(units, 2 * ranks)
    return np.minimum(stretch, 2 * ranks - 1 - stretch)


def by_cost(costs: Floats, ranks: int) -> Ints:
    """Units in stretches of about equal cost, in their order.

    >>> by_cost(np.array([4.0, 1, 1, 1, 1]), 2).tolist()
    [0, 1, 1, 1, 1]
    """
    units = len(costs)
    shares = np.cumsum(costs) / max(costs.sum(), 1e-300) * ranks
    ends = np.searchsorted(shares, np.arange(1, ranks) - 1e-9) + 1
    # Nobody is left with nothing: each has a unit at least, and leaves one for each that follows.
    at = np.arange(1, ranks)
    ends = np.minimum(np.maximum.accumulate(np.maximum(ends, at) - at) + at, units - ranks + at)
    return np.searchsorted(ends, np.arange(units), side="right")


# --- the order -----------------------------------------------------------------------------------


def _promising(
    layouts: Sequence[HeadLayout], ranks: int, uses: Sequence[int], judge: Judge
) -> list[NDArray[np.int32]]:
    """The order that may be faster than that of the positions, if there is one.

    Judged by the tiles as they are, before any is moved, which flatters orders of other parts.
    """
    length = layouts[0].query_len
    candidates: list[NDArray[np.int32] | None] = [None]
    for layout in layouts:
        for part in layout.parts:
            if not any(same_order(part.order, one) for one in candidates):
                candidates.append(part.order)
    if len(candidates) == 1 or length > MOST_ORDERED or ranks == 1:
        return []
    best: tuple[float, NDArray[np.int32] | None] | None = None
    for order in candidates:
        for owner in _owners(order, length, layouts[0].block_m, ranks):
            seconds = _judged(layouts, uses, owner, ranks, judge)
            if best is None or seconds < _CLEARLY * best[0]:
                best = seconds, order
    return [best[1]] if best is not None and best[1] is not None else []


def _owners(order: NDArray[np.int32] | None, length: int, unit: int, ranks: int) -> Iterator[Ints]:
    """Who owns each position, `(length,)`, if units of an order are divided in the usual ways."""
    places = length if order is None else len(order)
    units = -(-places // unit)
    for owner in (contiguous(units, ranks), head_tail(units, ranks)):
        if len(np.unique(owner)) < ranks:
            continue
        of_place = np.repeat(owner, unit)[:places]
        if order is None:
            yield of_place
            continue
        there = np.flatnonzero(order != NO_PLACE)
        found = np.empty(length, dtype=np.int64)
        found[order[there]] = of_place[there]
        yield found


def _judged(
    layouts: Sequence[HeadLayout], uses: Sequence[int], owner: Ints, ranks: int, judge: Judge
) -> float:
    """The predicted time if each position is owned so; tiles count for all who have a row of it."""
    tiles, received = np.zeros(ranks), np.zeros(ranks)
    seen: list[Part] = []
    for layout, use in zip(layouts, uses, strict=True):
        for part in layout.parts:
            rank, column = _computed(part, owner, ranks)
            tiles += use * np.bincount(rank, minlength=ranks)
            if any(part.forward is one.forward for one in seen):
                continue
            seen.append(part)
            received += _received(part, owner, ranks, rank, column)
    tokens = np.bincount(owner, minlength=ranks)
    return judge.seconds(tiles, tokens, received, layouts[0].block_m)


def _owners_of(part: Part, places: NDArray[np.integer], owner: Ints) -> Ints:
    """Who owns what stands at places of a part; -1 for nobody."""
    positions = places.astype(np.int64)
    if part.order is not None:
        positions = np.where(positions < 0, NO_PLACE, part.order[positions])
    return np.where(positions < 0, -1, owner[positions])


def _computed(part: Part, owner: Ints, ranks: int) -> tuple[Ints, Ints]:
    """Who computes which tiles, by their columns; rows of long queries are left out."""
    rows = part.forward
    counts = np.diff(rows.row_offsets)
    usual = np.median(counts[counts > 0]) if (counts > 0).any() else 0.0
    regular = np.arange(rows.num_regular * rows.block_m).reshape(-1, rows.block_m)
    regular = np.where(regular < rows.num_rows, regular, NO_PLACE)
    found = _owners_of(part, np.concatenate([regular, rows.listed]), owner)
    row = np.arange(len(found))[:, None]
    codes = np.unique(np.where(found < 0, -1, row * ranks + found))
    line, rank = np.divmod(codes[codes >= 0], ranks)
    short = counts[line] <= max(_LONG_ROW * usual, _LONG_ROW)
    line, rank = line[short], rank[short]
    many = counts[line]
    tile = np.arange(many.sum()) + np.repeat(rows.row_offsets[line] - np.cumsum(many) + many, many)
    return np.repeat(rank, many), rows.columns[tile].astype(np.int64)


def _received(part: Part, owner: Ints, ranks: int, rank: Ints, column: Ints) -> Floats:
    """How many keys each process needs of others for its tiles, `(ranks,)`."""
    rows = part.forward
    num_lists, num_columns = len(rows.gathered), -(-rows.num_columns // rows.block_n)
    regular = np.arange(num_columns * rows.block_n).reshape(-1, rows.block_n)
    regular = np.where(regular < rows.num_columns, regular, NO_PLACE)
    places = np.concatenate([rows.gathered[::-1], regular])  # list -1 - k is column k
    found = _owners_of(part, places, owner)
    size = (found >= 0).sum(1)
    pair_rank, pair_column = np.divmod(
        np.unique(rank * len(places) + column + num_lists), len(places)
    )
    own = np.zeros(len(pair_rank), dtype=np.int64)
    for at in range(0, len(own), 1 << 14):
        some = slice(at, at + (1 << 14))
        own[some] = (found[pair_column[some]] == pair_rank[some, None]).sum(1)
    need = np.bincount(pair_rank, size[pair_column] - own, minlength=ranks)
    return need.astype(np.float64)
