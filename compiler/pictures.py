"""Pictures as text: a grid of cells, each shaded by the share of its pairs that are read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.tiles import NO_PLACE

SHADES = " ░▒▓█"
"""Empty, up to a third, up to two thirds, less than all, all."""

ASCII_SHADES = " .:+#"

MOST_EXACT = 2048
"""Up to this length a picture of a head's layout is made from every pair."""

_MOST_TILES = 1 << 14


def shade_text(densities: NDArray[np.float64], *, ascii_only: bool = False) -> str:
    """Two characters a cell; any cell that is not empty shows, and `█` means all of its pairs.

    >>> print(shade_text(np.array([[1.0, 0.001], [0.0, 0.5]])))
    ██░░
      ▒▒
    """
    shades = ASCII_SHADES if ascii_only else SHADES
    levels = np.where(densities <= 0, 0, 1 + np.searchsorted([1 / 3, 2 / 3], densities))
    levels[densities >= 1] = 4
    return "\n".join("".join(shades[level] * 2 for level in row).rstrip() for row in levels)


def mean_of_mask(mask: NDArray[np.bool_], cells: int) -> NDArray[np.float64]:
    """The densities of a `cells x cells` picture of a dense mask.

    >>> mean_of_mask(np.tri(4, dtype=bool), 2)
    array([[0.75, 0.  ],
           [1.  , 0.75]])
    """
    rows, columns = (edges(length, cells) for length in mask.shape)
    counts = np.add.reduceat(mask, rows[:-1], axis=0, dtype=np.int64)
    counts = np.add.reduceat(counts, columns[:-1], axis=1)
    return counts / areas(rows, columns)


def mean_of_head(layout: HeadLayout, cells: int) -> NDArray[np.float64]:
    """The densities of a picture of what a head computes.

    Exact up to `MOST_EXACT` positions. Beyond, each tile's pairs are spread evenly over the places
    that it meets, and of very many tiles some are looked at.
    """
    if max(layout.query_len, layout.kv_len) <= MOST_EXACT:
        return mean_of_mask(layout.to_dense(), cells)
    rows, columns = edges(layout.query_len, cells), edges(layout.kv_len, cells)
    counts = sum(_counts_of_part(part, rows, columns) for part in layout.parts)
    found: NDArray[np.float64] = np.minimum(counts / areas(rows, columns), 1.0)
    found[found > 1 - 1e-9] = 1.0
    return found


def _counts_of_part(
    part: Part, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """About how many pairs each cell has."""
    half = part.forward
    tiles = np.arange(half.num_tiles)
    if len(tiles) > _MOST_TILES:
        tiles = np.sort(np.random.default_rng(0).choice(tiles, _MOST_TILES, replace=False))
    per_mask = np.bitwise_count(half.masks).sum((1, 2), dtype=np.int64)
    per_mask = np.append(per_mask, half.block_m * half.block_n)  # FULL is -1, the last
    pairs = per_mask[half.mask_ids[tiles]] * (half.num_tiles / max(1, len(tiles)))

    row = half.tile_rows()[tiles]
    queries = row[:, None] * half.block_m + np.arange(half.block_m)
    listed = np.flatnonzero(row >= half.num_regular)
    queries[listed] = half.listed[row[listed] - half.num_regular]
    column = half.columns[tiles].astype(np.int64)
    keys = column[:, None] * half.block_n + np.arange(half.block_n)
    gathered = np.flatnonzero(column < 0)
    keys[gathered] = half.gathered[-1 - column[gathered]]
    down = _shares(_positions(part, queries, half.num_rows), rows)
    across = _shares(_positions(part, keys, half.num_columns), columns)
    found: NDArray[np.float64] = (down * pairs[:, None]).T @ across
    return found


def _shares(positions: NDArray[np.int64], cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Which part of each tile's positions lies in each cell, `(tiles, cells)`."""
    count = len(cells) - 1
    there = positions != NO_PLACE
    at = np.searchsorted(cells, positions, side="right") - 1
    at += np.arange(len(positions))[:, None] * count
    found = np.bincount(at[there], minlength=len(positions) * count).reshape(-1, count)
    shares: NDArray[np.float64] = found / np.maximum(1, there.sum(1))[:, None]
    return shares


def _positions(part: Part, places: NDArray[np.int64], stop: int) -> NDArray[np.int64]:
    """The positions at some places; beyond the end there is none."""
    places = np.where(places < stop, places, NO_PLACE)
    if part.order is None:
        return places
    return np.where(places == NO_PLACE, NO_PLACE, part.order[places])


def edges(length: int, cells: int) -> NDArray[np.int64]:
    """Where the cells begin, and the end of the last."""
    if not 0 < cells <= length:
        raise ValueError(f"{length} tokens cannot fill {cells} cells")
    return np.arange(cells + 1, dtype=np.int64) * length // cells


def areas(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pairs each cell could have."""
    return np.multiply.outer(np.diff(rows), np.diff(columns))
