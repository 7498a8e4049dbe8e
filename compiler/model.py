"""The cost model: what tiles, items and merges cost, in units of one full tile.

The defaults describe a large GPU; `attnloom calibrate` measures them on a device.
"""

from __future__ import annotations

from dataclasses import dataclass


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
