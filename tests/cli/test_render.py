"""Pictures: exact densities from tiles, and nothing that is there may vanish."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.pictures import mean_of_mask, shade_text
from attnloom.render import exact_text, mean_of_layout, tile_for


def layout_of(mask: NDArray[np.bool_], block: int) -> BlockLayout:
    """Cut a mask into tiles, the plain way."""
    length = len(mask)
    blocks = -(-length // block)
    padded = np.zeros((blocks * block, blocks * block), dtype=bool)
    padded[:length, :length] = mask
    tiles = padded.reshape(blocks, block, blocks, block).swapaxes(1, 2)
    rows, columns = np.nonzero(tiles.any((2, 3)))
    kept = tiles[rows, columns]
    full = kept.all((1, 2))
    mask_ids = np.where(full, FULL, np.cumsum(~full) - 1).astype(np.int32)
    return BlockLayout(
        query_len=length,
        kv_len=length,
        block_m=block,
        block_n=block,
        row_offsets=np.searchsorted(rows, np.arange(blocks + 1)).astype(np.int64),
        column_indices=columns.astype(np.int32),
        mask_ids=mask_ids,
        masks=np.packbits(kept[~full], axis=-1, bitorder="little"),
    )


def ragged(length: int) -> NDArray[np.bool_]:
    """A band, some scattered pairs, and one global token."""
    i, j = np.ogrid[:length, :length]
    scattered = np.random.default_rng(length).random((length, length)) < 0.01
    return np.asarray((abs(i - j) < length // 5) | scattered | (i == length // 2))


@pytest.mark.parametrize("length", [40, 64, 100, 333])
@pytest.mark.parametrize("cells", [1, 3, 4, 7, 9])
def test_densities_from_tiles_equal_those_from_the_mask(length: int, cells: int) -> None:
    mask = ragged(length)
    found = mean_of_layout(layout_of(mask, tile_for(length, cells)), cells)
    assert found == pytest.approx(mean_of_mask(mask, cells))


def test_many_masks_are_taken_in_parts() -> None:
    mask = np.random.default_rng(0).random((400, 400)) < 0.5
    found = mean_of_layout(layout_of(mask, 16), 8)
    assert found == pytest.approx(mean_of_mask(mask, 8))


def test_tiles_larger_than_a_cell_are_refused() -> None:
    with pytest.raises(ValueError, match="larger than a cell"):
        mean_of_layout(layout_of(ragged(64), 16), 8)


@pytest.mark.parametrize(("length", "cells"), [(64, 64), (1000, 512), (4096, 50), (10**6, 512)])
def test_tile_fits_a_cell(length: int, cells: int) -> None:
    assert 1 <= tile_for(length, cells) <= min(128, length // cells)


def test_one_pair_in_a_million_shows() -> None:
    mask = np.zeros((1000, 1000), dtype=bool)
    mask[777, 3] = True
    assert shade_text(mean_of_mask(mask, 10)).splitlines()[7] == "░░"


def test_solid_means_every_pair() -> None:
    mask = np.ones((100, 100), dtype=bool)
    assert set(shade_text(mean_of_mask(mask, 10))) == {"█", "\n"}
    mask[50, 50] = False
    assert shade_text(mean_of_mask(mask, 10)).count("▓") == 2


def test_pictures_can_be_ascii() -> None:
    mask = np.tri(20, dtype=bool)
    assert exact_text(mask, ascii_only=True).isascii()
    assert shade_text(mean_of_mask(mask, 5), ascii_only=True).isascii()
