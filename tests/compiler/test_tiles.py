"""Arrays that come from outside are looked through before anything is executed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import attnloom
from attnloom.compiler.model import CostModel
from attnloom.compiler.passes import compile_region
from attnloom.compiler.tiles import NO_PLACE, TileRows


def rows() -> TileRows:
    """Tile rows with everything: masks, gathered and listed places, split rows."""
    text = "pattern p { window(each_side=20); global(every 61); random(links=2) }"
    region = attnloom.parse(text).bind(250).region
    model = CostModel(processors=4)
    (part,) = compile_region(region, 0, 250, block_m=16, block_n=16, heads=1, model=model)
    assert len(part.forward.listed)
    assert len(part.forward.gathered)
    assert len(part.forward.merges)
    return part.forward


ROWS = rows()


def changed(name: str, place: object, value: object) -> TileRows:
    array = getattr(ROWS, name).copy()
    array[place] = value
    return replace(ROWS, **{name: array})


def test_what_the_compiler_makes_is_without_fault() -> None:
    assert ROWS.fault() is None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (changed("row_offsets", 0, 1), "row_offsets must ascend"),
        (changed("row_offsets", -1, 10**9), "row_offsets must ascend"),
        (changed("row_offsets", 3, -5), "row_offsets must ascend"),
        (replace(ROWS, row_offsets=ROWS.row_offsets[:-1]), "one entry more"),
        (changed("columns", 0, 10**6), "columns must be"),
        (changed("columns", 0, -(10**6)), "columns must be"),
        (changed("mask_ids", 0, len(ROWS.masks)), "mask_ids must be"),
        (changed("mask_ids", 0, -2), "mask_ids must be"),
        (replace(ROWS, masks=ROWS.masks[:0]), "mask_ids must be"),
        (replace(ROWS, masks=ROWS.masks[:, :-1]), "masks must have shape"),
        (replace(ROWS, mask_ids=ROWS.mask_ids[:-1]), "mask_ids must have shape"),
        (replace(ROWS, columns=ROWS.columns.astype(np.int64)), "columns must be int32"),
        (replace(ROWS, items=ROWS.items.reshape(-1)), "items must be int32 in 2"),
        (changed("gathered", (0, 0), 250), "gathered must hold places below 250"),
        (changed("gathered", (0, 0), NO_PLACE), "empty places last"),
        (changed("listed", (0, 0), -2), "listed must hold"),
        (changed("listed", (0, 1), ROWS.listed[0, 0]), "no place twice"),
        (changed("items", (0, 0), 10**6), "items must be of rows"),
        (changed("items", (0, 2), 10**6), "items must be tiles of their rows"),
        (replace(ROWS, items=ROWS.items[1:]), "cover every tile once"),
        (replace(ROWS, items=np.concatenate([ROWS.items, ROWS.items[:1]])), "every tile once"),
        (replace(ROWS, merges=ROWS.merges[1:]), "merges must"),
        (changed("merges", (0, 1), 5), "merges must"),
        (changed("items", (slice(None), 3), -1), "merges must|whole row"),
    ],
)
def test_any_array_that_breaks_a_promise_is_found(broken: TileRows, message: str) -> None:
    fault = broken.fault()
    assert fault is not None
    assert any(part in fault for part in message.split("|")), fault


def test_full_tile_over_the_border_is_found() -> None:
    last = int(ROWS.row_offsets[ROWS.num_regular]) - 1
    fault = changed("mask_ids", last, -1).fault()
    assert fault == "a tile over the border must have a mask"


def test_full_tile_with_an_empty_place_is_found() -> None:
    has_empty = (ROWS.gathered == NO_PLACE).any(1)
    gathered = next(
        tile
        for tile in np.flatnonzero(ROWS.columns < 0)
        if has_empty[-1 - ROWS.columns[tile]] and ROWS.tile_rows()[tile] < ROWS.num_regular - 1
    )
    listed = int(ROWS.row_offsets[-2])
    assert NO_PLACE in ROWS.listed[-1]
    for tile in (gathered, listed):
        fault = changed("mask_ids", tile, -1).fault()
        assert fault == "a tile with an empty place must have a mask"


def test_random_damage_is_found_or_harmless() -> None:
    """Numbers that were changed are noticed, or still lie within every array."""
    rng = np.random.default_rng(0)
    noticed = 0
    for _ in range(300):
        name = rng.choice(["row_offsets", "columns", "mask_ids", "gathered", "listed", "items"])
        array = getattr(ROWS, name)
        place = tuple(int(rng.integers(size)) for size in array.shape)
        broken = changed(name, place, int(rng.integers(-300, 300)))
        if broken.fault() is not None:
            noticed += 1
            continue
        broken.to_dense()
    assert noticed > 100
