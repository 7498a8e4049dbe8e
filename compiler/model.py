"""The cost model: what tiles, items and merges cost, in units of one full tile.

The defaults describe a large GPU; `attnloom calibrate` measures them on a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnloom.compiler.layout import FULL

if TYPE_CHECKING:
    from attnloom.compiler.parts import Part
    from attnloom.compiler.tiles import TileRows


@dataclass(frozen=True)
class CostModel:
    """Costs relative to one full tile of 128x128, and the machine that they are for.

    `seconds_per_tile` is the time that one processor takes for a full tile with head_dim 64.
    """

    name: str = "default"
    processors: int = 132
    partial: float = 1.15
    """A tile with a mask."""

    gathered: float = 1.4
    """A tile whose places are listed."""

    item: float = 1.0
    """Starting and ending an item: loading queries, storing results."""

    merge: float = 0.5
    """Reading a partial result and joining it to another."""

    reorder: float = 0.25
    """Moving a row of tiles into another order, and its result back."""

    dense: float = 0.85
    """A full tile in dense attention, which needs no lists."""

    seconds_per_tile: float = 6e-6

    def tile_costs(self, rows: TileRows) -> np.ndarray:
        """The cost of each tile, in full tiles."""
        costs = np.where(rows.mask_ids == FULL, 1.0, self.partial)
        return np.where(rows.columns < 0, self.gathered, costs)

    def half_cost(self, rows: TileRows) -> float:
        """What a half costs in all, its items and merges included."""
        merging = float(rows.merges[:, 2].sum()) * self.merge
        return float(self.tile_costs(rows).sum()) + self.item * len(rows.items) + merging


@dataclass(frozen=True)
class Prediction:
    """What a plan is expected to cost, for one batch element and all heads.

    `flops` are those of the tiles that are computed, `useful_flops` those of the pairs alone: 4 for
    each pair and number of a head in the forward pass, 2.5 times as many in the backward pass.
    `bytes` are the keys, values, queries and outputs that the forward pass moves, in 16-bit
    numbers.
    """

    tiles: int
    flops: int
    useful_flops: int
    bytes: int
    seconds: float
    dense_seconds: float

    @property
    def speedup(self) -> float:
        """How many times faster than dense attention, forward."""
        return self.dense_seconds / self.seconds if self.seconds else math.inf

    @property
    def is_dense_better(self) -> bool:
        return self.seconds > self.dense_seconds


def predict(
    heads: Sequence[Sequence[Part]],
    model: CostModel,
    *,
    reads: int,
    length: int,
    head_dim: int = 64,
    causal: bool = False,
) -> Prediction:
    """The expected cost of the forward pass of some heads.

    Args:
        heads: the parts of each head.
        model: what things cost.
        reads: the pairs of all heads.
        length: positions, memory included.
        head_dim: numbers in a head's query.
        causal: whether dense attention could leave out the keys to come.
    """
    cost, tiles, moved, pairs = 0.0, 0, 0, 0
    block_m = block_n = 128
    for parts in heads:
        for part in parts:
            rows = part.forward
            block_m, block_n = rows.block_m, rows.block_n
            cost += model.half_cost(rows)
            cost += model.reorder * rows.num_regular * (part.order is not None)
            tiles += rows.num_tiles
            pairs += rows.num_tiles * block_m * block_n
            moved += rows.num_tiles * block_n * 2 + 2 * len(rows.items) * block_m
        cost += model.merge * (len(parts) - 1) * -(-length // block_m)
    rows_of_tiles, columns = -(-length // block_m), -(-length // block_n)
    dense = rows_of_tiles * columns * (0.5 + 0.5 / rows_of_tiles if causal else 1.0)
    dense_cost = model.dense * dense * len(heads)
    unit = model.seconds_per_tile * (block_m * block_n / 128**2) * (head_dim / 64)
    return Prediction(
        tiles=tiles,
        flops=4 * head_dim * pairs,
        useful_flops=4 * head_dim * reads,
        bytes=2 * head_dim * moved,
        seconds=unit * cost / model.processors,
        dense_seconds=unit * dense_cost / model.processors,
    )
