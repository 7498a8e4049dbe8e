"""dedupe: equal masks are stored once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attnloom.compiler.alike import by_first_use
from attnloom.compiler.bits import different
from attnloom.compiler.layout import FULL
from attnloom.compiler.passes.draft import Draft, DraftPart
from attnloom.compiler.tiles import TileRows


def dedupe(draft: Draft) -> Draft:
    """The same tile rows with each mask once."""
    return replace(draft, parts=tuple(_deduped(part) for part in draft.parts))


def _deduped(part: DraftPart) -> DraftPart:
    halves = []
    for rows, layout in zip(part.halves(), (part.layout, part.turned), strict=True):
        # The masks of a layout are all different, and remain so with rows and columns exchanged.
        is_layout = layout is not None and rows.masks is layout.masks
        halves.append(rows if is_layout else once(rows))
    return replace(part, forward=halves[0], transposed=halves[1])


def once(rows: TileRows) -> TileRows:
    """One half with each mask once."""
    partial = np.flatnonzero(rows.mask_ids != FULL)
    if not len(partial):
        return replace(rows, masks=rows.masks[:0])
    first, number = different(rows.masks)
    of_tile = number[rows.mask_ids[partial]]
    used, ids = by_first_use(of_tile, len(first))
    mask_ids = rows.mask_ids.copy()
    mask_ids[partial] = ids
    return replace(rows, mask_ids=mask_ids, masks=rows.masks[first[used]])
