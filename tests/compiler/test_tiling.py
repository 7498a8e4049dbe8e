"""Layouts of regions: exact, without empty tiles, and at a cost that follows the tiles."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from region_model import calls, dense_of, region_of, shown

import attnloom
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.regions import Band, Bands, Nothing, square
from attnloom.compiler.tiling import tile


def check_invariants(layout: BlockLayout) -> None:
    """What `BlockLayout` promises."""
    assert layout.row_offsets[0] == 0
    assert layout.row_offsets[-1] == layout.num_tiles
    for start, stop in zip(layout.row_offsets[:-1], layout.row_offsets[1:], strict=True):
        assert (np.diff(layout.column_indices[start:stop]) > 0).all()
    assert ((layout.column_indices >= 0) & (layout.column_indices < layout.num_kv_blocks)).all()
    assert ((layout.mask_ids >= FULL) & (layout.mask_ids < layout.num_masks)).all()
    masks = layout.unpacked_masks()
    assert masks.any((1, 2)).all()
    assert not masks.all((1, 2)).any()
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    # Numbered in the order of their first use, so that equal relations give equal layouts.
    used = layout.mask_ids[layout.mask_ids != FULL]
    assert list(dict.fromkeys(used.tolist())) == list(range(layout.num_masks))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_layout_is_exact_and_keeps_its_promises(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 70))
    primitive = data.draw(calls(n))
    note(shown(primitive))
    dense = dense_of(primitive, n)
    block_m, block_n = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    layout = tile(region_of(primitive, n), 0, n, block_m, block_n)
    check_invariants(layout)
    assert np.array_equal(layout.to_dense(), dense)
    assert layout.reads() == dense.sum()
    turned = layout.transpose()
    check_transposed(layout, turned)
    assert layout.num_full + layout.num_partial + layout.num_empty == (
        layout.num_query_blocks * layout.num_kv_blocks
    )


def check_transposed(layout: BlockLayout, turned: BlockLayout) -> None:
    assert np.array_equal(turned.to_dense(), layout.to_dense().T)
    again = turned.transpose()
    for name in ("row_offsets", "column_indices", "mask_ids", "masks"):
        assert np.array_equal(getattr(again, name), getattr(layout, name))


def test_full_tiles_are_those_without_a_gap() -> None:
    layout = tile(square(64), 0, 64, 16, 16)
    assert (layout.num_full, layout.num_partial, layout.num_masks) == (16, 0, 0)
    cut = tile(square(63), 0, 63, 16, 16)
    assert (cut.num_full, cut.num_partial) == (9, 7)


def test_nothing_is_no_tile() -> None:
    layout = tile(Nothing(), 0, 100, 16, 16)
    assert layout.num_tiles == 0
    assert not layout.to_dense().any()


def test_positions_may_start_below_zero() -> None:
    region = Bands.of(Band(i1=-5, i2=20, j1=-5, j2=20, d1=0, d2=3))
    layout = tile(region, -5, 21, 8, 8)
    i, j = np.arange(26)[:, None], np.arange(26)
    assert np.array_equal(layout.to_dense(), (i >= j) & (i - j <= 3))


def test_equal_relations_have_equal_layouts() -> None:
    texts = ("window(each_side=20)", "window(left=20, right=20)", "where(abs(i - j) <= 20)")
    prints = {
        attnloom.parse(f"pattern p {{ {text} }}").layouts(500)[0][0].fingerprint() for text in texts
    }
    assert len(prints) == 1


def test_too_many_tiles_are_refused_before_they_are_made() -> None:
    start = time.perf_counter()
    with pytest.raises(TooLarge):
        tile(square(1 << 30), 0, 1 << 30, 128, 128)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("text", "tiles", "masks"),
    [
        ("window(each_side=256); global(first 4)", 57332, 6),
        ("window(last=4096)", 269808, 2),
        ("only causal; broadcast(first 4); window(last=1020)", 81875, 5),
    ],
)
def test_a_million_tokens_cost_what_their_tiles_cost(text: str, tiles: int, masks: int) -> None:
    pattern = attnloom.parse(f"pattern p {{ {text} }}")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        (layout,), _ = pattern.layouts(1 << 20)
        times.append(time.perf_counter() - start)
    assert (layout.num_tiles, layout.num_masks) == (tiles, masks)
    assert layout.num_bytes < 16 << 20
    assert layout.reads() == pattern.reads(1 << 20)
    # 20 to 60 ms on two cores; the bound leaves room for a busy machine.
    assert min(times) < 1
