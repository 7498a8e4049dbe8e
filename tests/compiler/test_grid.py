"""From parts in orders of their own back to one grid: the pairs stay as they were."""

from __future__ import annotations

import time

import numpy as np
import pytest

import attnloom
from attnloom.compiler.grid import grid_of
from attnloom.compiler.parts import HeadLayout

NAMES = [
    "axial", "bigbird", "cswin", "deepspeed_fixed", "longformer_dilated", "longnet",
    "natten_3d", "pegasus_x", "random_links", "sparse_transformer_strided", "swin_shifted",
]  # fmt: skip


def heads_of(name: str, n: int, block: int) -> list[HeadLayout]:
    heads, _ = attnloom.load(name).head_layouts(n, heads=4, layer=1, layers=4, block=block)
    return heads


@pytest.mark.parametrize("n", [150, 333])
@pytest.mark.parametrize("name", NAMES)
def test_grid_of_any_order_has_the_same_pairs(name: str, n: int) -> None:
    heads = heads_of(name, n, 16)
    found = [part.order for head in heads for part in head.parts]
    orders = {None if one is None else one.tobytes(): one for one in found}
    orders[None] = None
    for head in heads:
        dense = head.to_dense()
        for order in orders.values():
            grid = grid_of(head, order)
            places = np.arange(len(dense))
            if order is not None:
                places = np.argsort(order)[-len(dense) :]
            assert grid.to_dense()[np.ix_(places, places)].tolist() == dense.tolist()
            assert grid.reads() == dense.sum()


def test_tiles_that_are_alike_are_taken_apart_once() -> None:
    pattern = attnloom.parse("pattern p { window(each_side=256, dilation=4) }")
    (head,), _ = pattern.head_layouts(1 << 17)
    assert head.parts[0].order is not None
    start = time.process_time()
    grid = grid_of(head)
    # Pair by pair it would be 67 million.
    assert time.process_time() - start < 3
    assert grid.reads() == head.reads
