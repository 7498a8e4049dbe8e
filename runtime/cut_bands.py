"""Takes bands out of a layout: what nearly every row of tiles has in the same place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from attnloom.runtime.pieces import Band, Bools, Ints
from attnloom.runtime.tiles import Tiles, ranges

MIN_BAND = 4
"""Rows of tiles from which a band is worth its call."""

RowsOfBand = tuple[tuple[int, float], ...]
"""Sizes of units to choose from, each with the relative speed at which a pair is computed."""


def take_bands(tiles: Tiles, covered: Bools, rows_of_band: RowsOfBand) -> Iterator[Band]:
    """Take out the widest band of tiles that most rows of tiles have, where they have all of it.

    Args:
        tiles: what is left; the pairs of the bands are removed.
        covered: the rows of tiles that have a result; those of the bands are set.
        rows_of_band: see `RowsOfBand`.
    """
    layout = tiles.layout
    if layout.block_m % layout.block_n or not len(tiles):
        return
    step = layout.block_m // layout.block_n
    offsets = tiles.columns - step * tiles.rows
    usual_offsets, usual_ids = _usual(tiles, offsets)
    if not len(usual_offsets):
        return
    place = np.searchsorted(usual_offsets, offsets)
    place[place == len(usual_offsets)] = 0
    in_band = usual_offsets[place] == offsets
    wanted = usual_ids[place]
    holds = in_band.copy()
    holds[in_band] = ~tiles.lacks(tiles.ids[in_band], wanted[in_band])
    agreeing = np.bincount(tiles.rows[holds], minlength=layout.num_query_blocks)
    # A unit must not hang over the last query, even if it reads nothing there.
    agreeing[layout.query_len // layout.block_m :] = 0
    runs = ranges(agreeing == len(usual_offsets))
    runs = runs[runs[:, 1] - runs[:, 0] >= MIN_BAND]
    span = tiles.unpacked(usual_ids).transpose(1, 0, 2).reshape(layout.block_m, -1)
    for start, stop in runs.tolist():
        covered[start:stop] = True
        first_key = (start * step + int(usual_offsets[0])) * layout.block_n
        yield from _bands_of_run(span, start, stop, first_key, rows_of_band)
    in_runs = in_band & covered[tiles.rows]
    tiles.remove(in_runs, tiles.table, wanted[in_runs])


def _usual(tiles: Tiles, offsets: Ints) -> tuple[Ints, Ints]:
    """The widest run of offsets at which most rows have a tile, and the mask they share at each."""
    found = []
    many = max(MIN_BAND, tiles.layout.num_query_blocks / 2)
    values, counts = np.unique(offsets, return_counts=True)
    for offset in values[counts >= many].tolist():
        number, area = _common_mask(tiles, offsets == offset)
        if area:
            found.append((offset, number))
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    usual = np.array(found, dtype=np.int64).T
    breaks = np.flatnonzero(np.diff(usual[0]) > 1) + 1
    clusters = np.split(np.arange(usual.shape[1]), breaks)
    widest = max(clusters, key=len)
    return usual[0, widest], usual[1, widest]


def _common_mask(tiles: Tiles, where: Bools) -> tuple[int, int]:
    """The id of the mask that covers most pairs if taken from every tile that has all of it.

    Returns 0 for the area when not even half of the rows of tiles have such a mask.
    """
    layout = tiles.layout
    ids, counts = np.unique(tiles.ids[where], return_counts=True)
    # Tiles at the border are cut off, and would spoil what the others have in common.
    inside = where & (tiles.rows < layout.num_query_blocks - 1)
    inside &= tiles.columns < layout.num_kv_blocks - 1
    candidates = ids[np.argsort(-counts, kind="stable")][:3].tolist()
    if inside.any():
        common = np.bitwise_and.reduce(tiles.table[np.unique(tiles.ids[inside])], axis=0)
        candidates.append(int(tiles.add(common[None])[0]))
    best = (0, 0)
    for candidate in candidates:
        mask = tiles.table[candidate]
        rows = counts[~(mask & ~tiles.table[ids]).any((1, 2))].sum()
        area = int(rows) * int(np.bitwise_count(mask).sum())
        if rows >= layout.num_query_blocks / 2 and area > best[1]:
            best = candidate, area
    return best


def _bands_of_run(
    span: Bools, start: int, stop: int, first_key: int, rows_of_band: RowsOfBand
) -> Iterator[Band]:
    """Cut the rows of tiles `start..stop`, each of which reads `span`, into units."""
    block = len(span)
    num_rows = (stop - start) * block
    choices = []
    for rows, speed in rows_of_band:
        if rows <= num_rows and (block % rows == 0 or rows % block == 0):
            mask, shift = _mask_of_unit(span, rows)
            if mask is not None:
                choices.append((mask.shape[1] / speed, rows, mask, shift))
    if not choices:
        mask, shift = _mask_of_unit(span, block)
        assert mask is not None, "a unit of one tile always has one mask"
        choices = [(0.0, block, mask, shift)]
    _, rows, mask, shift = min(choices, key=lambda choice: choice[0])
    num_units = num_rows // rows
    every = None if mask.all() else mask
    yield Band(start * block, first_key + shift, num_units, rows, mask.shape[1], every)
    done = num_units * rows // block
    if start + done < stop:
        left = tuple(choice for choice in rows_of_band if choice[0] <= block) or ((block, 1.0),)
        yield from _bands_of_run(span, start + done, stop, first_key + done * block, left)


def _mask_of_unit(span: Bools, rows: int) -> tuple[Bools | None, int]:
    """The mask of units of `rows` queries, and its first key relative to the span's.

    `None` when smaller units do not all read the same keys relative to themselves.
    """
    block, width = span.shape
    repeats = max(1, rows // block)
    whole = np.zeros((repeats * block, width + (repeats - 1) * block), dtype=np.bool_)
    for repeat in range(repeats):
        whole[repeat * block : (repeat + 1) * block, repeat * block :][:, :width] = span
    used = np.flatnonzero(whole[:rows].any(0))
    if not len(used):
        return None, 0
    first, stop = int(used[0]), int(used[-1]) + 1
    mask = whole[:rows, first:stop]
    for top in range(rows, len(whole), rows):
        moved = np.zeros_like(mask)
        inside = whole[top : top + rows, first + top : stop + top]
        moved[:, : inside.shape[1]] = inside
        count = np.count_nonzero(whole[top : top + rows])
        if not np.array_equal(moved, mask) or np.count_nonzero(mask) != count:
            return None, 0
    return mask, first
