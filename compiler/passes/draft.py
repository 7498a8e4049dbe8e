"""What the passes hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.model import CostModel
from attnloom.compiler.orders import Order
from attnloom.compiler.parts import Part
from attnloom.compiler.passes.wide import Wide
from attnloom.compiler.regions import Region
from attnloom.compiler.runs import Ints
from attnloom.compiler.tiles import TileRows


@dataclass(frozen=True, eq=False)
class DraftPart:
    """A part on its way: fields are filled in by the passes."""

    region: Region
    order: Order | None = None
    layout: BlockLayout | None = None
    turned: BlockLayout | None = None
    """The layout with rows and columns exchanged."""

    pairs: tuple[Ints, Ints] | None = None
    """Listed pairs beside the layout, as places, `(num_pairs,)` twice."""

    wide: tuple[Wide, ...] = ()
    """Parts about scattered tokens beside the layout."""

    forward: TileRows | None = None
    transposed: TileRows | None = None

    @property
    def order_name(self) -> str:
        return "identity" if self.order is None else self.order.name

    def halves(self) -> tuple[TileRows, TileRows]:
        """Both halves, not packed if no pass has done so."""
        if self.forward is not None and self.transposed is not None:
            return self.forward, self.transposed
        assert self.layout is not None
        assert self.pairs is None
        assert not self.wide
        return TileRows.of(self.layout), TileRows.of(self.layout.transpose())

    def finished(self) -> Part:
        forward, transposed = self.halves()
        assert self.layout is not None
        order = None
        if self.order is not None:
            order = np.maximum(self.order.positions - self.order.start, -1).astype(np.int32)
        layout = self.layout
        blocks = layout.num_full, layout.num_partial, layout.num_tiles + layout.num_empty
        return Part(order, self.order_name, forward, transposed, blocks)


@dataclass(frozen=True, eq=False)
class Draft:
    """A plan for the pairs of a region over `start..stop`, on its way through the passes."""

    region: Region
    start: int
    stop: int
    block_m: int
    block_n: int
    heads: int
    model: CostModel
    apart: bool
    """Whether listed pairs and scattered tokens stay out of the tiles, to be packed."""

    parts: tuple[DraftPart, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.parts:
            object.__setattr__(self, "parts", (DraftPart(self.region),))
