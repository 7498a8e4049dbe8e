"""The passes of the block compiler: exact with each of them and without, and worth their cost."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from region_model import calls, dense_of, region_of, shown

import attnloom
from attnloom.compiler.model import CostModel
from attnloom.compiler.passes import OPTIONAL, PASSES, Part, compile_region
from attnloom.compiler.passes.schedule import makespan
from attnloom.compiler.regions import Region, both, either, minus, square
from attnloom.compiler.tiles import NO_PLACE, TileRows

EVERY_SUBSET = [
    chosen
    for count in range(len(OPTIONAL) + 1)
    for chosen in itertools.combinations(OPTIONAL, count)
]
EAGER = CostModel(processors=4, reorder=-2.0, gathered=1.0, merge=0.0)
"""A model in which orders, lists and splits pay at once, so that short sequences have them."""


def dense_of_part(part: Part, length: int) -> tuple[np.ndarray, np.ndarray]:
    """What both halves of a part compute, by positions."""
    order = np.arange(length) if part.order is None else part.order
    filled = order >= 0
    found = []
    for half in (part.forward.to_dense(), part.transposed.to_dense().T):
        assert not half[~filled].any()
        assert not half[:, ~filled].any()
        dense = np.zeros((length, length), dtype=int)
        dense[np.ix_(order[filled], order[filled])] = half[np.ix_(filled, filled)]
        found.append(dense)
    return found[0], found[1]


def check_half(rows: TileRows) -> None:
    """What `TileRows` promises."""
    assert rows.fault() is None
    assert rows.row_offsets[0] == 0
    assert rows.row_offsets[-1] == rows.num_tiles
    assert len(rows.row_offsets) == rows.num_regular + len(rows.listed) + 1
    assert (rows.columns < -(-rows.num_columns // rows.block_n)).all()
    assert (rows.columns >= -len(rows.gathered)).all()
    assert (rows.mask_ids < len(rows.masks)).all()
    for lists, bound in ((rows.gathered, rows.num_columns), (rows.listed, rows.num_rows)):
        there = lists != NO_PLACE
        assert ((lists >= 0) & (lists < bound))[there].all()
        assert (there[:, :-1] | ~there[:, 1:]).all()  # what is not there comes last
    listed = rows.listed[rows.listed != NO_PLACE]
    assert len(set(listed.tolist())) == len(listed)
    # Every tile is in one item; split rows have consecutive slots, each written once.
    counts = np.zeros(rows.num_tiles, dtype=int)
    slots: dict[int, list[int]] = {}
    for row, start, stop, slot in rows.items.tolist():
        assert rows.row_offsets[row] <= start < stop <= rows.row_offsets[row + 1]
        counts[start:stop] += 1
        if slot >= 0:
            slots.setdefault(row, []).append(slot)
        else:
            assert (start, stop) == tuple(rows.row_offsets[row : row + 2])
    assert (counts == 1).all()
    merges = {row: list(range(first, first + num)) for row, first, num in rows.merges.tolist()}
    assert {row: sorted(own) for row, own in slots.items()} == merges
    every = sorted(slot for own in merges.values() for slot in own)
    assert every == list(range(len(every)))


def check_parts(
    region: Region,
    dense: np.ndarray,
    tile: tuple[int, int],
    without: Collection[str] = (),
    model: CostModel = EAGER,
) -> tuple[Part, ...]:
    n = len(dense)
    parts = compile_region(
        region, 0, n, block_m=tile[0], block_n=tile[1], heads=2, model=model, without=without
    )
    forward, transposed = np.zeros((2, n, n), dtype=int)
    for part in parts:
        check_half(part.forward)
        check_half(part.transposed)
        one, other = dense_of_part(part, n)
        forward += one
        transposed += other
    # Each pair in exactly one part.
    assert np.array_equal(forward, dense)
    assert np.array_equal(transposed, dense)
    return parts


TILES = [(16, 16), (32, 32), (64, 64), (128, 128), (128, 64), (8, 8), (4, 4), (8, 16)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_parts_are_exact_for_any_relation(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 80))
    drawn = [data.draw(calls(n)) for _ in range(data.draw(st.integers(1, 3)))]
    for primitive in drawn:
        note(shown(primitive))
    region, dense = region_of(drawn[0], n), dense_of(drawn[0], n)
    for primitive in drawn[1:]:
        other, matrix = region_of(primitive, n), dense_of(primitive, n)
        region, dense = data.draw(
            st.sampled_from(
                [
                    (either(region, other), dense | matrix),
                    (both(region, other), dense & matrix),
                    (minus(region, other), dense & ~matrix),
                ]
            )
        )
    without = data.draw(st.sampled_from(EVERY_SUBSET))
    model = data.draw(st.sampled_from([EAGER, CostModel()]))
    check_parts(region, dense, data.draw(st.sampled_from(TILES)), without, model)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(st.data())
def test_parts_are_exact_for_many_relations(data: st.DataObject) -> None:
    test_parts_are_exact_for_any_relation.hypothesis.inner_test(data)


TEXTS = [
    "window(each_side=9); global(every 32)",
    "window(each_side=9, dilation=4)",
    "window(each_side=4); random(links=3)",
    "only causal; window(last=8); stride(8)",
    "grid(16, 16) { near(2) }",
    "grid(4, 8, 8) { neighborhood(3, 3, 3) }",
    "blocks(16) { let near = window(each_side=1); near; random(links=2, outside=near) }",
    "chunks(64) & stride(4)",
    "full",
    "none",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("without", [(), *[(name,) for name in OPTIONAL], OPTIONAL])
@pytest.mark.parametrize("tile", [(16, 16), (32, 16), (128, 128)])
def test_parts_are_exact_without_any_pass(
    text: str, without: tuple[str, ...], tile: tuple[int, int]
) -> None:
    pattern = attnloom.parse(f"pattern p {{ {text} }}")
    for n in (1, 63, 256):
        check_parts(pattern.bind(n).region, pattern.mask(n), tile, without)


def test_passes_are_what_the_design_lists() -> None:
    names = [one.__name__ for one in PASSES]
    assert names == ["normalise", "order", "tile", "pack", "dedupe", "schedule"]


# --- gains ---------------------------------------------------------------------------------------

N = 1 << 16


def parts_of(text: str, n: int = N, **options: object) -> tuple[Part, ...]:
    bound = attnloom.parse(f"pattern p {{ {text} }}").bind(n)
    return compile_region(
        bound.region, -bound.memory, bound.tokens, block_m=128, block_n=128, **options
    )  # type: ignore[arg-type]


def num_tiles(parts: tuple[Part, ...]) -> tuple[int, int]:
    forward = sum(part.forward.num_tiles for part in parts)
    return forward, sum(part.transposed.num_tiles for part in parts)


WINDOW = num_tiles(parts_of("window(each_side=256)"))


def at_most(text: str, factor: float, other: tuple[int, int]) -> tuple[Part, ...]:
    parts = parts_of(text)
    for tiles, most in zip(num_tiles(parts), other, strict=True):
        assert tiles <= factor * most
    return parts


def test_order_makes_a_dilated_window_as_cheap_as_a_plain_one() -> None:
    parts = at_most("window(each_side=256, dilation=8)", 1.3, WINDOW)
    assert [part.order_name for part in parts] == ["residues of 8"]


def test_order_splits_a_window_from_a_stride() -> None:
    parts = parts_of("only causal; window(last=128); stride(128)")
    assert [part.order_name for part in parts] == ["identity", "residues of 128"]
    assert num_tiles(parts)[0] < 3000


def test_order_gathers_the_cells_of_a_grid() -> None:
    near = at_most("grid(256, 256) { near(8) }", 1.3, WINDOW)
    assert "cells" in near[0].order_name
    without = num_tiles(parts_of("grid(256, 256) { near(8) }", without=["order"]))
    assert num_tiles(near)[0] * 2.5 < without[0]


@pytest.mark.parametrize(
    "text", ["window(each_side=256)", "causal", "full", "chunks(128)", "blocks(64) { causal }"]
)
def test_order_leaves_alone_what_is_dense_already(text: str) -> None:
    (part,) = parts_of(text, 1 << 13)
    assert part.order is None


def test_pack_makes_scattered_globals_as_cheap_as_those_in_front() -> None:
    front = num_tiles(parts_of("window(each_side=256); global(first 256)"))
    parts = at_most("window(each_side=256); global(every 256)", 1.5, front)
    assert parts[0].forward.num_gathered
    assert len(parts[0].forward.listed) == 2


def test_pack_makes_random_links_cheap() -> None:
    at_most("window(each_side=256); random(links=3)", 2.5, WINDOW)


def test_pack_leaves_alone_what_it_cannot_better() -> None:
    for text in ("window(each_side=256); global(first 256)", "causal", "window(last=1000)"):
        parts = parts_of(text)
        assert num_tiles(parts) == num_tiles(parts_of(text, without=["pack"]))


@pytest.mark.parametrize("globals_", ["first 16", "every 4096", "[5, 70, 3000, 60000]"])
def test_schedule_keeps_all_processors_at_work(globals_: str) -> None:
    model = CostModel(processors=132)
    (part,) = parts_of(f"window(each_side=256); global({globals_})", heads=8, model=model)
    for half in (part.forward, part.transposed):
        total = 8 * (model.tile_costs(half).sum() + model.item * len(half.items))
        assert makespan(half, 8, model) <= 1.15 * total / model.processors


def test_without_a_schedule_one_global_row_keeps_one_processor_busy() -> None:
    (part,) = parts_of("window(each_side=256); global(first 16)", without=["schedule"])
    assert len(part.forward.merges) == 0
    assert makespan(part.forward, 1, CostModel()) >= 512


def test_listed_pairs_beside_a_dense_part_are_counted_once() -> None:
    n = 300
    pattern = attnloom.parse(
        "pattern p { window(each_side=20); global(every 50); random(links=4); "
        "random(links=5, seed=1) }"
    )
    region = both(pattern.bind(n).region, square(n))
    check_parts(region, pattern.mask(n), (16, 16))


@pytest.mark.parametrize("name", attnloom.bundled())
def test_bundled_patterns_are_exact(name: str) -> None:
    pattern = attnloom.load(name)
    # A short sequence in which every pass is eager, and a longer one in which each has to pay.
    for n, block, model in ((200, 32, EAGER), (2048, 64, None)):
        examples = {
            "tokens": f"[0, 3, {n // 2}]",
            "segments": [i // 50 for i in range(n)],
            "links": [[i // 2, 0] for i in range(n)],
        }
        inputs = {one: examples[kind] for one, kind in pattern.inputs.items()}
        (head,), _ = pattern.head_layouts(n, inputs=inputs, block=block, model=model)
        mask = pattern.mask(n, inputs=inputs)
        assert np.array_equal(head.to_dense(), mask)
        assert np.array_equal(head.transposed_to_dense(), mask)
        assert head.reads == mask.sum()
