"""The pieces of a layout say exactly what the layout says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_helpers import layout_of

from attnloom.compiler.model import CostModel
from attnloom.compiler.passes import part_of_tiles
from attnloom.compiler.tiles import TileRows
from attnloom.runtime.cut import cut
from attnloom.runtime.pieces import Pieces

ROWS_OF_BAND = ((32, 1.0), (64, 1.0), (128, 1.0), (256, 1.06))


def dense_of(pieces: Pieces, rows: TileRows) -> np.ndarray:
    """How often each pair occurs, piece by piece."""
    shape = (
        -(-rows.num_rows // rows.block_m) * rows.block_m,
        -(-rows.num_columns // rows.block_n) * rows.block_n,
    )
    counts = np.zeros(shape, dtype=int)
    written = np.zeros(shape[0], dtype=int)
    for band in pieces.bands:
        mask = band.mask if band.mask is not None else np.True_
        for unit in range(band.num_units):
            row, key = band.first_row + unit * band.rows, band.first_key + unit * band.rows
            assert key >= 0
            assert key + band.num_keys <= rows.num_columns
            counts[row : row + band.rows, key : key + band.num_keys] += mask
            written[row : row + band.rows] += 1
    for part in pieces.shared:
        counts[part.first_row : part.stop_row, part.keys] += 1
        assert (written[part.first_row : part.stop_row] == part.merges).all()
        written[part.first_row : part.stop_row] = 1
    for start, stop in pieces.bare:
        assert stop <= rows.num_rows
        assert not written[start:stop].any()
        written[start:stop] = 1
    for part in pieces.gathered:
        table = pieces.tables[part.table]
        block_m = table.shape[1]
        seen = counts.copy()
        for row, columns, ids in zip(part.first_rows, part.columns, part.mask_ids, strict=True):
            keys = (columns[:, None] * part.block_n + np.arange(part.block_n)).reshape(-1)
            reads = table[ids].transpose(1, 0, 2).reshape(block_m, -1)
            np.add.at(counts, (row + np.arange(block_m)[:, None], keys), reads)
        reads = (counts - seen).any(1)
        for row in part.first_rows:
            assert (written[row : row + block_m] == part.merges).all()
            written[row : row + block_m] = 1
        for unit, row in enumerate(part.first_rows):
            silent = ~reads[row : row + block_m]
            expected = part.silent[unit] if part.silent is not None else np.zeros_like(silent)
            assert (silent == expected).all()
        assert part.is_full == all(table[i].all() for i in np.unique(part.mask_ids))
    for part in pieces.long_rows:
        counts[part.rows] = 0
        length = part.stop_key - part.first_key
        bits = 1
        if part.mask is not None:
            bits = np.unpackbits(part.mask, axis=-1, count=length, bitorder="little")
        counts[part.rows, part.first_key : part.stop_key] = bits
    assert (written[: rows.num_rows] == 1).all()
    assert all(
        band.first_row + band.num_units * band.rows <= rows.num_rows for band in pieces.bands
    )
    assert all(part.stop_row <= rows.num_rows for part in pieces.shared)
    return counts[: rows.num_rows, : rows.num_columns]


def check(dense: np.ndarray, block_m: int, block_n: int) -> Pieces:
    rows = TileRows.of(layout_of(dense, block_m, block_n))
    pieces = cut(rows, rows_of_band=ROWS_OF_BAND)
    assert (dense_of(pieces, rows) == dense).all()
    return pieces


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_pair_is_in_exactly_one_piece(data: st.DataObject) -> None:
    rows, keys = data.draw(st.integers(1, 400)), data.draw(st.integers(1, 400))
    block_m, block_n = data.draw(
        st.sampled_from([(16, 16), (32, 32), (32, 16), (16, 32), (24, 12)])
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    i, j = np.arange(rows)[:, None], np.arange(keys)
    dense = np.zeros((rows, keys), dtype=bool)
    for kind in data.draw(st.lists(st.sampled_from("wwgkrbdc"), max_size=4)):
        size = int(rng.integers(0, 60))
        if kind == "w":
            dense |= (i - j <= size) & (j - i <= int(rng.integers(0, 60)))
        elif kind == "g":
            dense |= (i < size // 4) | (j < size // 4)
        elif kind == "k":
            dense |= np.isin(j, rng.integers(0, keys, 5)) | np.isin(i, rng.integers(0, rows, 2))
        elif kind == "r":
            dense |= rng.random((rows, keys)) < size / 1000
        elif kind == "b":
            dense |= i // 32 == j // 32
        elif kind == "d":
            dense |= ((i - j) % 3 == 0) & (abs(i - j) <= size)
        else:
            dense &= j <= i
    check(dense, block_m, block_n)


def longformer(n: int, reach: int, marks: np.ndarray) -> np.ndarray:
    i, j = np.arange(n)[:, None], np.arange(n)
    return (abs(i - j) <= reach) | np.isin(i, marks) | np.isin(j, marks)


def test_window_with_globals_falls_into_views_and_little_else() -> None:
    pieces = check(longformer(4096, 100, np.arange(16)), 128, 128)
    (band,) = pieces.bands
    assert (band.rows, band.num_keys) == (32, 232)
    assert [len(part.keys) for part in pieces.shared] == [16]
    assert [part.rows.tolist() for part in pieces.long_rows] == [list(range(16))]
    assert pieces.num_gathered_pairs <= 512 * 1024


@pytest.mark.parametrize("marks", [[5, 1000, 2000], [0, 4095], list(range(0, 4096, 500))])
def test_scattered_globals_leave_the_window_regular(marks: list[int]) -> None:
    pieces = check(longformer(4096, 128, np.array(marks)), 128, 128)
    assert sum(band.num_units * band.rows for band in pieces.bands) >= 3500
    assert sum(part.rows.size for part in pieces.long_rows) == len(marks)


def test_window_on_tile_borders_uses_whole_tiles() -> None:
    n = 2048
    i, j = np.arange(n)[:, None] // 128, np.arange(n) // 128
    pieces = check(abs(i - j) <= 1, 128, 128)
    (band,) = pieces.bands
    assert (band.rows, band.num_keys, band.mask) == (128, 384, None)


def test_band_does_not_hang_over_the_last_query() -> None:
    i, j = np.arange(1000)[:, None], np.arange(1000)
    pieces = check((i // 128 == j // 128) & (i % 128 < 100), 128, 128)
    assert sum(band.num_units * band.rows for band in pieces.bands) == 7 * 128


def test_long_rows_keep_what_the_plan_has_gathered() -> None:
    dense = np.zeros((96, 112), dtype=bool)
    dense[np.arange(96), np.arange(96)] = True
    dense[81:91, :48] = True
    dense[81:91, 48::13] = True
    layout = layout_of(dense, 16, 16)
    rows = part_of_tiles(layout, 1, CostModel()).forward
    assert (rows.columns < 0).any()
    pieces = cut(rows, rows_of_band=ROWS_OF_BAND)
    assert [part.rows.tolist() for part in pieces.long_rows] == [list(range(81, 91))]
    assert (dense_of(pieces, rows) == dense).all()
