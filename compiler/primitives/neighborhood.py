"""`neighborhood`: NATTEN's window, which every query has in full, shifted inwards at the ends.

The rule is that of NATTEN (Hassani et al. 2023, arXiv:2204.07143; dilation: Hassani & Shi 2022,
arXiv:2209.15001): within the residue class `i % d`, whose members are numbered `q = i // d`, query
`q` reads the `k` members around `centre = clamp(q, k // 2, count - 1 - (k - 1) // 2)`, that is
`centre - k // 2 .. centre + (k - 1) // 2`, both inclusive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnloom.compiler.limits import MAX_PIECES, TooLarge
from attnloom.compiler.primitives.base import (
    Bools,
    Context,
    Form,
    Kind,
    Primitive,
    number,
    of_kind,
)
from attnloom.compiler.primitives.cells import AxisBox, axes_of, coordinates, grid_region, in_grid
from attnloom.compiler.regions import Boxes, Region
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import Bounds, Zones


@dataclass(frozen=True, eq=False, kw_only=True)
class Neighborhood(Primitive):
    """The nearest `keys` keys, as many for the queries at the ends; all, if there are fewer."""

    name = "neighborhood"
    forms = (
        Form(
            "neighborhood(keys=k, dilation=d)",
            "exactly k keys for every row, shifted inwards at the ends", ("keys",), ("dilation",),
        ),
    )  # fmt: skip

    keys: int = number(least=1)
    dilation: int = number(least=1, default=1)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return nearest(i, j, self.keys, self.dilation, length)

    def region(self, length: int) -> Region:
        found = Zones.empty(0, length)
        for places, zones in _axis_boxes(self.keys, min(self.dilation, length), length):
            found = found | Zones.digits(0, length, places, zones)
        return Boxes(found)

    def describe(self, length: int) -> str:
        steps = f" in steps of {self.dilation}" if self.dilation > 1 else ""
        return f"the nearest {self.keys} keys{steps}, also at the ends"


@dataclass(frozen=True, eq=False, kw_only=True)
class GridNeighborhood(Primitive):
    """The nearest cells on every axis of a grid, as many at the borders."""

    name = "neighborhood"
    in_grid = True
    forms = (
        Form(
            "neighborhood(kh, kw, dilation=d)", "NATTEN's window on each axis of the grid",
            ("rows", "columns"), ("dilation",), positional=2,
        ),
        Form(
            "neighborhood(kt, kh, kw, dilation=d)", "the same in a grid of three axes",
            ("frames", "rows", "columns"), ("dilation",), positional=3,
        ),
    )  # fmt: skip

    frames: int | None = number(least=1, default=None)
    rows: int = number(least=1)
    columns: int = number(least=1)
    dilation: int = number(least=1, default=1)
    shape: tuple[int, ...] = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"shape": context.shape}

    def check(self) -> None:
        axes_of(self.shape, self.frames, self.rows, self.columns)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        found = in_grid(i, self.shape) & in_grid(j, self.shape)
        queries, keys = coordinates(i, self.shape), coordinates(j, self.shape)
        sizes = axes_of(self.shape, self.frames, self.rows, self.columns)
        for q, k, size, extent in zip(queries, keys, sizes, self.shape, strict=True):
            found = found & nearest(q, k, size, self.dilation, extent)
        return found

    def region(self, length: int) -> Region:
        sizes = axes_of(self.shape, self.frames, self.rows, self.columns)
        choices = []
        for axis, (size, extent) in enumerate(zip(sizes, self.shape, strict=True)):
            dilation = min(self.dilation, extent)
            boxes = _diagonals if axis and extent % dilation else _axis_boxes
            choices.append(boxes(size, dilation, extent))
        if math.prod(map(len, choices)) > MAX_PIECES:
            raise TooLarge(f"the neighbourhoods fall into more than {MAX_PIECES:,} pieces")
        return grid_region(self.shape, choices, length)

    def describe(self, length: int) -> str:
        sizes = axes_of(self.shape, self.frames, self.rows, self.columns)
        steps = f" in steps of {self.dilation}" if self.dilation > 1 else ""
        return f"the nearest {'x'.join(map(str, sizes))} cells{steps}, also at the borders"


def nearest(i: Ints, j: Ints, keys: int, dilation: int, length: int) -> Bools:
    """Whether `j` is among the nearest keys of `i`, on an axis of some length."""
    q, residue = i // dilation, i % dilation
    count = (length - residue + dilation - 1) // dilation
    before, after = keys // 2, (keys - 1) // 2
    centre = np.maximum(np.minimum(q, count - 1 - after), before)
    distance = j // dilation - centre
    return np.asarray((j % dilation == residue) & (-before <= distance) & (distance <= after))


def _axis_boxes(keys: int, dilation: int, length: int) -> list[AxisBox]:
    """The neighbourhoods on an axis as boxes of the places `(1, dilation)`."""
    if dilation == 1:
        return [((1,), [zone]) for zone in _classes(keys, length)]
    found: list[AxisBox] = []
    count, longer = divmod(length, dilation)
    # The first residue classes have one member more than the others.
    for members, low, high in ((count + 1, 0, longer - 1), (count, longer, dilation - 1)):
        if low > high or not members:
            continue
        residue = Bounds(i=(low, high), j=(low, high), d=(0, 0))
        found += [((1, dilation), [residue, zone]) for zone in _classes(keys, members)]
    return found


def _classes(keys: int, count: int) -> list[Bounds]:
    """The zones of a residue class with `count` members: the two ends, and between them a band."""
    before, after = keys // 2, (keys - 1) // 2
    if keys >= count:
        return [Bounds(i=(0, count - 1), j=(0, count - 1))]
    last = count - 1
    return [
        Bounds(i=(0, before), j=(0, keys - 1)),
        Bounds(i=(before, last - after), j=(0, last), d=(-after, before)),
        Bounds(i=(last - after, last), j=(count - keys, last)),
    ]


def _diagonals(keys: int, dilation: int, length: int) -> list[AxisBox]:
    """The neighbourhoods on an axis as pieces of diagonals, where it has no digit for residues."""
    if length * length > _MOST_CELLS:
        raise TooLarge(f"a dilation of {dilation} on an axis of {length} cells")
    axis = np.arange(length)
    allowed = nearest(axis[:, None], axis, keys, dilation, length)
    found: list[AxisBox] = []
    for gap in range(1 - length, length):
        rows = np.flatnonzero(np.diagonal(allowed, -gap)) + max(0, gap)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        found += [
            ((1,), [Bounds(i=(int(run[0]), int(run[-1])), d=(gap, gap))])
            for run in runs
            if len(run)
        ]
    return found


_MOST_CELLS = 1 << 22
