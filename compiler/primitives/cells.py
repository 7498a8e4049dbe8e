"""`near`, `row`, `column` and `tile`: the cells of a grid, in row-major order.

Positions beyond the last cell belong to no cell; cells beyond the last position are not there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnloom.compiler.limits import MAX_PIECES
from attnloom.compiler.primitives.base import (
    BadArgument,
    Bools,
    Context,
    Form,
    Kind,
    Primitive,
    number,
    of_kind,
)
from attnloom.compiler.regions import Boxes, Region, Same
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import Bounds, Zones

AxisBox = tuple[tuple[int, ...], list[Bounds]]
"""A box within one axis: its place values there, and the zone of each digit, lowest first."""

AXES = ("frames", "rows", "columns")


def axes_of(shape: Sequence[int], *values: int | None) -> list[int]:
    """The values for the axes of a grid, from those of frames, rows and columns.

    Raises:
        BadArgument: there is a value too many, or one too few.
    """
    given = [value for value in values if value is not None]
    if len(given) != len(shape):
        listed = ", ".join(map(str, [*given, *given[-1:] * 2][: len(shape)]))
        raise BadArgument(
            "",
            f"a grid of {len(shape)} axes needs {len(shape)} numbers, got {len(given)}",
            f"`({listed})`",
            expected=f"{len(shape)} numbers",
        )
    return given


def coordinates(positions: Ints, shape: Sequence[int]) -> list[Ints]:
    """The coordinates of cells, slowest axis first."""
    found = []
    for extent in reversed(shape[1:]):
        found.append(positions % extent)
        positions = positions // extent
    return [positions, *reversed(found)]


def in_grid(positions: Ints, shape: Sequence[int]) -> Bools:
    return np.asarray(positions < math.prod(shape))


def grid_region(
    shape: Sequence[int],
    choices: Sequence[Sequence[AxisBox]],
    length: int,
) -> Region:
    """The region of a product over the axes: on each axis the union of some boxes.

    Args:
        shape: the extents, slowest axis first.
        choices: for each axis its boxes: place values within the axis, and their digits.
        length: how many positions there are.
    """
    found = Zones.empty(0, length)
    for choice in itertools.product(*choices):
        places: list[int] = []
        digits: list[Bounds] = []
        unit = 1
        for axis in reversed(range(len(shape))):
            for place, zone in zip(*choice[axis], strict=True):
                if axis == 0 and place == 1:
                    # No digit lies above that would end the grid.
                    zone = _bounded(zone, shape[0])
                if axis == 0 or place < shape[axis]:
                    places.append(unit * place)
                    digits.append(zone)
            unit *= shape[axis]
        found = found | Zones.digits(0, length, tuple(places), digits)
    return Boxes(found)


@dataclass(frozen=True, eq=False, kw_only=True)
class Near(Primitive):
    """The cells within some distance on every axis."""

    name = "near"
    in_grid = True
    forms = (
        Form("near(r)", "at most r cells away on every axis", ("reach",), positional=1),
        Form(
            "near(rh, rw)", "at most rh rows and rw columns away", ("rows", "columns"), positional=2
        ),
        Form(
            "near(rt, rh, rw)", "the same in a grid of three axes",
            ("frames", "rows", "columns"), positional=3,
        ),
    )  # fmt: skip

    reach: int | None = number(least=0, default=None)
    frames: int | None = number(least=0, default=None)
    rows: int | None = number(least=0, default=None)
    columns: int | None = number(least=0, default=None)
    shape: tuple[int, ...] = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"shape": context.shape}

    def check(self) -> None:
        self._reaches()

    def _reaches(self) -> list[int]:
        if self.reach is not None:
            return [self.reach] * len(self.shape)
        return axes_of(self.shape, self.frames, self.rows, self.columns)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        found = in_grid(i, self.shape) & in_grid(j, self.shape)
        queries, keys = coordinates(i, self.shape), coordinates(j, self.shape)
        for q, k, reach in zip(queries, keys, self._reaches(), strict=True):
            found = found & (np.abs(q - k) <= reach)
        return found

    def region(self, length: int) -> Region:
        choices = [[((1,), [Bounds(d=(-reach, reach))])] for reach in self._reaches()]
        return grid_region(self.shape, choices, length)

    def describe(self, length: int) -> str:
        reaches = self._reaches()
        cells = "x".join(str(2 * reach + 1) for reach in reaches)
        return f"the {cells} cells around"


@dataclass(frozen=True, eq=False, kw_only=True)
class Row(Primitive):
    """The cells of the same row, and frame if there are any."""

    name = "row"
    in_grid = True
    forms = (Form("row", "the same row (and frame)"),)

    shape: tuple[int, ...] = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"shape": context.shape}

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return _agree(i, j, self.shape, range(len(self.shape) - 1))

    def region(self, length: int) -> Region:
        return _agreement(self.shape, range(len(self.shape) - 1), length)

    def describe(self, length: int) -> str:
        return f"the same row of {self.shape[-1]} cells"


@dataclass(frozen=True, eq=False, kw_only=True)
class Column(Primitive):
    """The cells of the same column, and frame if there are any."""

    name = "column"
    in_grid = True
    forms = (Form("column", "the same column (and frame)"),)

    shape: tuple[int, ...] = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"shape": context.shape}

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return _agree(i, j, self.shape, self._axes())

    def _axes(self) -> list[int]:
        return [*range(len(self.shape) - 2), len(self.shape) - 1]

    def region(self, length: int) -> Region:
        return _agreement(self.shape, self._axes(), length)

    def describe(self, length: int) -> str:
        return f"the same column of {self.shape[-2]} cells"


@dataclass(frozen=True, eq=False, kw_only=True)
class Tile(Primitive):
    """The cells of the same tile; a shift moves all tiles, and those at the border are cut."""

    name = "tile"
    in_grid = True
    forms = (
        Form(
            "tile(bh, bw, shift=s)", "the same tile of bh x bw cells, moved by s on every axis",
            ("rows", "columns"), ("shift",), positional=2,
        ),
        Form(
            "tile(bt, bh, bw, shift=s)", "the same in a grid of three axes",
            ("frames", "rows", "columns"), ("shift",), positional=3,
        ),
    )  # fmt: skip

    frames: int | None = number(least=1, default=None)
    rows: int = number(least=1)
    columns: int = number(least=1)
    shift: int = number(default=0)
    shape: tuple[int, ...] = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"shape": context.shape}

    def check(self) -> None:
        self._sizes()

    def _sizes(self) -> list[int]:
        return axes_of(self.shape, self.frames, self.rows, self.columns)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        found = in_grid(i, self.shape) & in_grid(j, self.shape)
        queries, keys = coordinates(i, self.shape), coordinates(j, self.shape)
        for q, k, size in zip(queries, keys, self._sizes(), strict=True):
            found = found & ((q - self.shift) // size == (k - self.shift) // size)
        return found

    def region(self, length: int) -> Region:
        choices = []
        for size, extent in zip(self._sizes(), self.shape, strict=True):
            first = self.shift % size - size
            starts = [max(0, start) for start in range(first, extent, size) if start + size > 0]
            stops = [*starts[1:], extent]
            choices.append(
                [
                    ((1,), [Bounds(i=(start, stop - 1), j=(start, stop - 1))])
                    for start, stop in zip(starts, stops, strict=True)
                ]
            )
        if math.prod(map(len, choices)) > _MOST_TILES:
            return self._numbered(length)
        return grid_region(self.shape, choices, length)

    def _numbered(self, length: int) -> Region:
        """By the number of each cell's tile, where there are many tiles."""
        positions = np.arange(length, dtype=np.int64)
        ids = np.zeros(length, dtype=np.int64)
        for one, size, extent in zip(
            coordinates(positions, self.shape), self._sizes(), self.shape, strict=True
        ):
            ids = ids * (extent // size + 2) + (one - self.shift % size + size) // size
        return Same(np.where(in_grid(positions, self.shape), ids, -1))

    def describe(self, length: int) -> str:
        shifted = f", moved by {self.shift}" if self.shift else ""
        return f"the same tile of {'x'.join(map(str, self._sizes()))} cells{shifted}"


_MOST_TILES = min(64, MAX_PIECES)


def _bounded(zone: Bounds, extent: int) -> Bounds:
    last = extent - 1
    i, j = zone.i or (0, last), zone.j or (0, last)
    return Bounds((max(i[0], 0), min(i[1], last)), (max(j[0], 0), min(j[1], last)), zone.d)


def _agree(i: Ints, j: Ints, shape: Sequence[int], axes: Sequence[int]) -> Bools:
    """Whether two cells have the same coordinates on some axes."""
    found = in_grid(i, shape) & in_grid(j, shape)
    queries, keys = coordinates(i, shape), coordinates(j, shape)
    for axis in axes:
        found = found & (queries[axis] == keys[axis])
    return found


def _agreement(shape: Sequence[int], axes: Sequence[int], length: int) -> Region:
    choices = [
        [((1,), [Bounds(d=(0, 0)) if axis in axes else Bounds()])] for axis in range(len(shape))
    ]
    return grid_region(shape, choices, length)
