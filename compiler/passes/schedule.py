"""schedule: long rows are split, and the longest items come first.

One row of a global token can be hundreds of times as long as the others; the processor that has it
would work on alone. Rows are cut into items of about the same cost, whose partial results are
joined in a second pass, in a fixed order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attnloom.compiler.model import CostModel
from attnloom.compiler.passes.draft import Draft, DraftPart
from attnloom.compiler.tiles import TileRows

_WAVES = 4
"""Items for each processor, at the least, when there is that much to do."""

_SHORTEST = 8
"""Tiles below which a row is not split."""


def schedule(draft: Draft) -> Draft:
    """Items for both halves of each part."""
    return replace(draft, parts=tuple(_scheduled(part, draft) for part in draft.parts))


def _scheduled(part: DraftPart, draft: Draft) -> DraftPart:
    forward, transposed = part.halves()
    return replace(
        part,
        forward=with_items(forward, draft.heads, draft.model),
        transposed=with_items(transposed, draft.heads, draft.model),
    )


def with_items(rows: TileRows, heads: int, model: CostModel) -> TileRows:
    """The same tile rows with items that keep all processors at work.

    A row is split when it costs more than a fair share: what all heads cost, over some times the
    number of processors. Its pieces have equally many tiles, to within one.
    """
    costs = model.tile_costs(rows)
    total = float(costs.sum()) * heads
    share = max(_SHORTEST, total / (model.processors * _WAVES))
    sums = np.concatenate([[0.0], np.cumsum(costs)])
    starts, stops = rows.row_offsets[:-1], rows.row_offsets[1:]
    lengths = stops - starts
    row_costs = sums[stops] - sums[starts]
    pieces = np.where(row_costs > 1.5 * share, np.ceil(row_costs / share), 1).astype(np.int64)
    pieces = np.where(lengths > 0, np.minimum(pieces, np.maximum(1, lengths // _SHORTEST)), 0)
    row = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = starts[row] + number * lengths[row] // pieces[row]
    end = starts[row] + (number + 1) * lengths[row] // pieces[row]
    split = np.flatnonzero(pieces > 1)
    first_slot = np.zeros(len(pieces), dtype=np.int64)
    first_slot[split] = np.cumsum(pieces[split]) - pieces[split]
    slot = np.where(pieces[row] > 1, first_slot[row] + number, -1)
    items = np.stack([row, begin, end, slot], axis=1)
    longest = np.argsort(-(sums[end] - sums[begin]), kind="stable")
    merges = np.stack([split, first_slot[split], pieces[split]], axis=1)
    return replace(
        rows, items=items[longest].astype(np.int32), merges=merges.astype(np.int32)
    )  # fmt: skip


def makespan(rows: TileRows, heads: int, model: CostModel) -> float:
    """When the last processor is done, if each takes the next item when it is free.

    Merges come after: each costs what its partial results cost to read.
    """
    costs = np.concatenate([[0.0], np.cumsum(model.tile_costs(rows))])
    items = rows.items.astype(np.int64)
    each = costs[items[:, 2]] - costs[items[:, 1]] + model.item
    loads = np.zeros(model.processors)
    for cost in np.repeat(each, heads):
        loads[np.argmin(loads)] += cost
    merging = np.repeat(rows.merges[:, 2] * model.merge, heads)
    after = np.zeros(model.processors)
    for cost in merging:
        after[np.argmin(after)] += cost
    return float(loads.max(initial=0) + after.max(initial=0))
