"""Pictures of a pattern: from masks or block layouts to a grid of densities, and on to text or PNG.

A picture is a square grid of cells; each holds the share of its pairs that are in the pattern. It
is computed from the tiles of a layout, so a million tokens cost no more than their tiles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.pictures import areas, edges

_MASKS_AT_ONCE = 256


def mean_of_layout(layout: BlockLayout, cells: int) -> NDArray[np.float64]:
    """The densities of a `cells x cells` picture of a layout, exact, without the dense mask.

    A tile must not be larger than a cell, so that it touches at most four cells. Its pairs are
    split among them at one row and one column: a full tile by area, a partial one by looking the
    split up in the cumulated counts of its mask.
    """
    rows, columns = edges(layout.query_len, cells), edges(layout.kv_len, cells)
    if layout.block_m > layout.query_len // cells or layout.block_n > layout.kv_len // cells:
        raise ValueError(f"tiles of {layout.block_m} x {layout.block_n} are larger than a cell")
    cell_rows, row_splits = _splits(layout.tile_rows(), layout.block_m, rows)
    cell_columns, column_splits = _splits(layout.column_indices, layout.block_n, columns)

    counts = np.zeros((cells + 1) * (cells + 1))  # one spare row and column for empty halves

    def add(tiles: NDArray[np.intp], quarters: tuple[NDArray[np.int64], ...]) -> None:
        for (down, right), quarter in zip(((0, 0), (0, 1), (1, 0), (1, 1)), quarters, strict=True):
            at = (cell_rows[tiles] + down) * (cells + 1) + cell_columns[tiles] + right
            counts[:] += np.bincount(at, weights=quarter, minlength=len(counts))

    full = np.flatnonzero(layout.mask_ids == FULL)
    top, left = row_splits[full], column_splits[full]
    bottom, right = layout.block_m - top, layout.block_n - left
    add(full, (top * left, top * right, bottom * left, bottom * right))

    for first in range(0, layout.num_masks, _MASKS_AT_ONCE):
        sums = _cumulated(layout, first, first + _MASKS_AT_ONCE)
        ids = layout.mask_ids
        tiles = np.flatnonzero((ids >= first) & (ids < first + _MASKS_AT_ONCE))
        mask, top, left = ids[tiles] - first, row_splits[tiles], column_splits[tiles]
        corner, upper = sums[mask, top, left], sums[mask, top, -1]
        lower, total = sums[mask, -1, left], sums[mask, -1, -1]
        add(tiles, (corner, upper - corner, lower - corner, total - upper - lower + corner))

    return counts.reshape(cells + 1, cells + 1)[:cells, :cells] / areas(rows, columns)


def tile_for(length: int, cells: int) -> int:
    """The largest tile (a power of two, at most 128) that fits a cell."""
    return int(min(128, 1 << max(0, (length // cells).bit_length() - 1)))


def exact_text(mask: NDArray[np.bool_], *, ascii_only: bool = False) -> str:
    """One mark a pair: `█` when the row's query reads the column's key, `·` when not.

    >>> print(exact_text(np.tri(3, dtype=bool)))
    █ · ·
    █ █ ·
    █ █ █
    """
    marks = "-#" if ascii_only else "·█"
    return "\n".join(" ".join(marks[int(pair)] for pair in row) for row in mask)


def save_png(densities: NDArray[np.float64], path: Path, *, title: str, length: int) -> None:
    """Write the picture as a PNG: query down, key across, darker is denser.

    The scale is a square root and starts visibly above white: thin global rows must not vanish.

    Raises:
        ModuleNotFoundError: Matplotlib, the extra `plot`, is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    ink = np.where(densities > 0, 0.2 + 0.8 * np.sqrt(densities), 0.0)
    axes.imshow(
        ink, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", extent=(0, length, length, 0)
    )
    axes.set(title=title, xlabel="key", ylabel="query")
    figure.savefig(path, format="png")


def _splits(
    tiles: NDArray[np.int32], size: int, edges: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """For each tile, the cell in which it starts and how many of its lines lie in that cell."""
    starts = tiles.astype(np.int64) * size
    cells = np.searchsorted(edges, starts, side="right") - 1
    return cells, np.minimum(edges[cells + 1] - starts, size)


def _cumulated(layout: BlockLayout, start: int, stop: int) -> NDArray[np.int64]:
    """`[mask, top, left]`: the allowed pairs in the first `top` rows and `left` columns."""
    bits = np.unpackbits(layout.masks[start:stop], axis=-1, count=layout.block_n, bitorder="little")
    sums = np.zeros((len(bits), layout.block_m + 1, layout.block_n + 1), dtype=np.int64)
    bits.cumsum(axis=1, dtype=np.int64).cumsum(axis=2, out=sums[:, 1:, 1:])
    return sums
