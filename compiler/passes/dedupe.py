"""dedupe: equal masks are stored once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attnloom.compiler.layout import FULL
from attnloom.compiler.passes.draft import Draft, DraftPart
from attnloom.compiler.tiles import TileRows


def dedupe(draft: Draft) -> Draft:
    """The same tile rows with each mask once, in the order of first use."""
    return replace(draft, parts=tuple(_deduped(part) for part in draft.parts))


def _deduped(part: DraftPart) -> DraftPart:
    forward, transposed = part.halves()
    return replace(part, forward=_once(forward), transposed=_once(transposed))


def _once(rows: TileRows) -> TileRows:
    partial = np.flatnonzero(rows.mask_ids != FULL)
    if not len(partial):
        return replace(rows, masks=rows.masks[:0])
    flat = np.ascontiguousarray(rows.masks.reshape(len(rows.masks), -1))
    names = flat.view(np.dtype((np.void, flat.shape[1]))).reshape(-1)
    _, name = np.unique(names, return_inverse=True)
    of_tile = name.reshape(-1)[rows.mask_ids[partial]]
    _, first, which = np.unique(of_tile, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order))
    ids = rows.mask_ids.copy()
    ids[partial] = rank[which.reshape(-1)]
    return replace(rows, mask_ids=ids, masks=rows.masks[rows.mask_ids[partial[first[order]]]])
