"""`neighborhood`: NATTEN's window, which every query has in full, shifted inwards at the ends.

What it is on one axis is said in `axis.py`; on several axes it is that on each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnloom.compiler.limits import MAX_PIECES, TooLarge
from attnloom.compiler.primitives.axis import AxisWindow
from attnloom.compiler.primitives.base import (
    BadArgument,
    Bools,
    Context,
    Form,
    Kind,
    Primitive,
    flag,
    number,
    of_kind,
)
from attnloom.compiler.primitives.cells import AXES, axes_of, coordinates, grid_region, in_grid
from attnloom.compiler.regions import Boxes, Region
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import Bounds, Zones

_OPTIONS = ("dilation", "stride", "causal")


@dataclass(frozen=True, eq=False, kw_only=True)
class Neighborhood(Primitive):
    """The nearest `keys` keys, as many for the queries at the ends; all, if there are fewer."""

    name = "neighborhood"
    forms = (
        Form(
            "neighborhood(keys=k)",
            "exactly k keys for every row, shifted inwards at the ends", ("keys",), _OPTIONS,
        ),
    )  # fmt: skip

    keys: int = number(least=1)
    dilation: int = number(least=1, default=1)
    stride: int = number(least=1, default=1)
    causal: bool = flag(default=False)

    def check(self) -> None:
        _check_stride(self.stride, self.keys, "keys")

    def _window(self, length: int) -> AxisWindow:
        return AxisWindow(
            extent=length, keys=self.keys, dilation=self.dilation, stride=self.stride,
            causal=self.causal,
        )  # fmt: skip

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return self._window(length).allows(i, j)

    def region(self, length: int) -> Region:
        found = Zones.empty(0, length)
        for places, zones in self._window(length).boxes(is_outermost=True):
            found = found | Zones.digits(0, length, places, zones)
        return Boxes(found)

    def describe(self, length: int) -> str:
        if self.causal:
            return f"the last {self.keys} keys{_moving(self)}"
        return f"the nearest {self.keys} keys{_moving(self)}, also at the ends"


@dataclass(frozen=True, eq=False, kw_only=True)
class GridNeighborhood(Primitive):
    """The nearest cells on every axis of a grid, or on one of them; as many at the borders."""

    name = "neighborhood"
    in_grid = True
    forms = (
        Form(
            "neighborhood(kh, kw)", "NATTEN's window on each axis of the grid",
            ("rows", "columns"), _OPTIONS, positional=2,
        ),
        Form(
            "neighborhood(kt, kh, kw)", "the same in a grid of three axes",
            ("frames", "rows", "columns"), _OPTIONS, positional=3,
        ),
        Form("neighborhood(columns=k)", "on this axis alone; all rows", ("columns",), _OPTIONS),
        Form("neighborhood(rows=k)", "on this axis alone; all columns", ("rows",), _OPTIONS),
        Form("neighborhood(frames=k)", "on this axis alone", ("frames",), _OPTIONS),
    )  # fmt: skip

    frames: int | None = number(least=1, default=None)
    rows: int | None = number(least=1, default=None)
    columns: int | None = number(least=1, default=None)
    dilation: int = number(least=1, default=1)
    stride: int = number(least=1, default=1)
    causal: bool = flag(default=False)
    shape: tuple[int, ...] = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"shape": context.shape}

    def check(self) -> None:
        for name, keys in zip(AXES[-len(self.shape) :], self._sizes(), strict=True):
            if keys is not None:
                _check_stride(self.stride, keys, name)

    def _sizes(self) -> list[int | None]:
        """The keys on each axis; `None` where the axis is free."""
        sizes = [self.frames, self.rows, self.columns]
        if sum(size is not None for size in sizes) > 1:
            return list(axes_of(self.shape, *sizes))
        if self.frames is not None and len(self.shape) < len(AXES):
            raise BadArgument(
                "frames",
                "a grid of 2 axes has no frames",
                f"`rows={self.frames}`",
                f"`columns={self.frames}`",
                expected="rows or columns",
            )
        return sizes[-len(self.shape) :]

    def _windows(self) -> list[AxisWindow | None]:
        return [
            None if keys is None else AxisWindow(
                extent=extent, keys=keys, dilation=self.dilation, stride=self.stride,
                causal=self.causal,
            )
            for keys, extent in zip(self._sizes(), self.shape, strict=True)
        ]  # fmt: skip

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        found = in_grid(i, self.shape) & in_grid(j, self.shape)
        queries, keys = coordinates(i, self.shape), coordinates(j, self.shape)
        for window, query, key in zip(self._windows(), queries, keys, strict=True):
            if window is not None:
                found = found & window.allows(query, key)
        return found

    def region(self, length: int) -> Region:
        choices = [
            [((1,), [Bounds()])] if window is None else window.boxes(is_outermost=axis == 0)
            for axis, window in enumerate(self._windows())
        ]
        if math.prod(map(len, choices)) > MAX_PIECES:
            raise TooLarge(f"the neighbourhoods fall into more than {MAX_PIECES:,} pieces")
        return grid_region(self.shape, choices, length)

    def describe(self, length: int) -> str:
        named = zip(AXES[-len(self.shape) :], self._sizes(), strict=True)
        axes = [(name, size) for name, size in named if size is not None]
        cells = f"{'x'.join(str(size) for _, size in axes)} cells"
        if len(axes) < len(self.shape):
            cells = f"{axes[0][1]} {axes[0][0]}"
        if self.causal:
            return f"the last {cells}{_moving(self)}"
        return f"the nearest {cells}{_moving(self)}, also at the borders"


def _check_stride(stride: int, keys: int, name: str) -> None:
    if stride > keys:
        raise BadArgument(
            "stride",
            f"`stride` must be at most `{name}`, {keys}, or queries leave their window; "
            f"got {stride}",
            f"`stride={keys}`: as many queries share a window as it has keys",
            expected=f"at most {keys}",
        )


def _moving(one: Neighborhood | GridNeighborhood) -> str:
    steps = f" in steps of {one.dilation}" if one.dilation > 1 else ""
    return f"{steps}, shared by {one.stride} in a row" if one.stride > 1 else steps
