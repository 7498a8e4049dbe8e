"""The passes of the block compiler, in the order in which they run; each is one file.

A pass is a function from a draft to a draft. `compile_region` runs them; any but `tile` can be
left out, and the plan is exact all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import Part
from attnloom.compiler.passes.dedupe import dedupe, once
from attnloom.compiler.passes.draft import Draft
from attnloom.compiler.passes.normalise import normalise
from attnloom.compiler.passes.order import order
from attnloom.compiler.passes.pack import NONE, pack, pack_half
from attnloom.compiler.passes.schedule import schedule, with_items
from attnloom.compiler.passes.tile import tile
from attnloom.compiler.regions import Nothing, Region

Pass = Callable[[Draft], Draft]

PASSES: tuple[Pass, ...] = (normalise, order, tile, pack, dedupe, schedule)
"""Every pass, in order."""

OPTIONAL = tuple(one.__name__ for one in PASSES if one is not tile)
"""The names of the passes that can be left out."""


def compile_region(
    region: Region,
    start: int,
    stop: int,
    *,
    block_m: int,
    block_n: int,
    heads: int = 1,
    model: CostModel | None = None,
    without: Collection[str] = (),
) -> tuple[Part, ...]:
    """The parts of a plan that execute a region over the positions `start..stop`.

    Args:
        region: the pairs, none outside of the positions.
        start: the first position.
        stop: the position after the last.
        block_m: queries of a tile.
        block_n: keys of a tile.
        heads: how many heads will share the result, for the schedule.
        model: what things cost; by default a large GPU.
        without: names of passes to leave out.

    Raises:
        TooLarge: the plan would be beyond the limits.
    """
    draft = Draft(
        region, start, stop, block_m, block_n, heads, model or CostModel(),
        apart="pack" not in without,
    )  # fmt: skip
    *_, (_, last) = run_passes(draft, without)
    return tuple(part.finished() for part in last.parts)


def part_of_tiles(layout: BlockLayout, heads: int, model: CostModel) -> Part:
    """A part that executes a layout as it is, packed and scheduled."""
    turned = layout.transpose()
    halves = []
    for half, other in ((layout, turned), (turned, layout)):
        packed = once(pack_half(half, other, (NONE, NONE), (), Nothing(), 0, model))
        halves.append(with_items(packed, heads, model))
    blocks = layout.num_full, layout.num_partial, layout.num_tiles + layout.num_empty
    return Part(None, "identity", halves[0], halves[1], blocks)


def run_passes(draft: Draft, without: Collection[str] = ()) -> Iterator[tuple[str, Draft]]:
    """The draft after each pass that is not left out, with the name of the pass."""
    for one in PASSES:
        if one.__name__ not in without:
            draft = one(draft)
            yield one.__name__, draft


__all__ = [
    "OPTIONAL",
    "PASSES",
    "CostModel",
    "Draft",
    "Part",
    "compile_region",
    "part_of_tiles",
    "run_passes",
]
