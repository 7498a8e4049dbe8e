"""tile: which tiles are full, partial or empty, found without looking at all pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attnloom.compiler.limits import MAX_LINKS, TooLarge
from attnloom.compiler.passes.draft import Draft, DraftPart
from attnloom.compiler.passes.wide import Wide, take_wide
from attnloom.compiler.regions import Links, Region, either
from attnloom.compiler.regions.base import Both, Either, Minus
from attnloom.compiler.runs import Ints
from attnloom.compiler.tiling import tile as tile_region


def tile(draft: Draft) -> Draft:
    """The layout of each part; what will be packed from lists stays beside it."""
    return replace(draft, parts=tuple(_tiled(part, draft) for part in draft.parts))


def _tiled(part: DraftPart, draft: Draft) -> DraftPart:
    start, stop = draft.start, draft.stop
    if part.order is not None:
        start, stop = 0, part.order.length
    region, pairs = part.region, None
    wide: tuple[Wide, ...] = ()
    if draft.apart:
        region, pairs = _split(part.region, start)
        region, wide = take_wide(region, start, stop, draft.block_m, draft.block_n)
    layout = tile_region(region, start, stop, draft.block_m, draft.block_n)
    return replace(part, layout=layout, pairs=pairs, wide=wide)


def _split(region: Region, start: int) -> tuple[Region, tuple[Ints, Ints] | None]:
    """The part of a region that is not listed token by token, and the other pairs as places."""
    parts = region.parts if isinstance(region, Either) else (region,)
    lists = [(part, links) for part in parts if (links := _links(part)) is not None]
    if not lists:
        return region, None
    rest = either(*(part for part in parts if _links(part) is None))
    queries, keys = [], []
    for part, links in lists:
        kept = part.contains(links.rows, links.keys) & ~rest.contains(links.rows, links.keys)
        queries.append(links.rows[kept])
        keys.append(links.keys[kept])
    i, j = np.concatenate(queries), np.concatenate(keys)
    if len(i) > MAX_LINKS:
        raise TooLarge(f"more than {MAX_LINKS:,} links")
    if len(lists) > 1:
        span = int(max(i.max(initial=0), j.max(initial=0))) + 1
        codes = np.unique(i * span + j)
        i, j = codes // span, codes % span
    return rest, (i - start, j - start)


def _links(region: Region) -> Links | None:
    """The list of token pairs that all pairs of a region come from."""
    match region:
        case Links() if region.block == 1:
            return region
        case Both(parts=parts):
            return next((found for part in parts if (found := _links(part)) is not None), None)
        case Minus(part=part):
            return _links(part)
    return None
