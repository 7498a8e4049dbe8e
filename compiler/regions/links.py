"""Links: pairs that are listed one by one, perhaps pairs of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from attnloom.compiler.limits import MAX_LINKS, TooLarge
from attnloom.compiler.regions.base import EMPTY, FULL, MIXED, Bools, Kinds, Region, Tiles
from attnloom.compiler.regions.rectangles import rectangles
from attnloom.compiler.runs import Ints, Runs
from attnloom.compiler.zones import Zones

_MOST_CELLS = 62
"""Cells of a tile whose links fit the bits of one number."""


@dataclass(frozen=True, eq=False)
class Links(Region):
    """The pairs of tokens of listed pairs of blocks; blocks of one token are tokens.

    Row `r` lists the keys `keys[offsets[r]:offsets[r + 1]]`, ascending and different, all in
    `0..num_keys` and counted in blocks; `length` counts tokens.

    Shapes:
        offsets: `(num_rows + 1,)`; keys: `(num_links,)`
    """

    offsets: Ints
    keys: Ints
    num_keys: int
    block: int
    length: int
    _touched: dict[tuple[int, int, int], tuple[Ints, int]] = field(
        default_factory=dict, repr=False, init=False
    )

    @classmethod
    def of_rows(cls, offsets: Ints, keys: Ints, num_keys: int) -> Links:
        """From lists of keys in any order, which may repeat."""
        num_rows = len(offsets) - 1
        rows = np.repeat(np.arange(num_rows, dtype=np.int64), np.diff(offsets))
        codes = np.unique(rows * num_keys + keys)
        counts = np.bincount(codes // max(1, num_keys), minlength=num_rows)
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(ends, codes % max(1, num_keys), num_keys, 1, num_keys)

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def rows(self) -> Ints:
        """The row of each link, in blocks."""
        return np.repeat(np.arange(self.num_rows, dtype=np.int64), np.diff(self.offsets))

    @cached_property
    def codes(self) -> Ints:
        """`row * num_keys + key` of each link, ascending."""
        return self.rows * self.num_keys + self.keys

    def contains(self, i: Ints, j: Ints) -> Bools:
        inside = (i >= 0) & (i < self.length) & (j >= 0) & (j < self.length)
        codes = self.codes
        wanted = np.where(inside, (i // self.block) * self.num_keys + j // self.block, -1)
        at = np.searchsorted(codes, wanted)
        return np.asarray(np.append(codes, -2)[at] == wanted)

    def listed(self, height: int, width: int, origin: int) -> Ints:
        codes, columns = self._tiles(height, width, origin)
        return np.stack([codes // columns, codes % columns], axis=1)

    def classify(self, tiles: Tiles) -> Kinds:
        codes, columns = self._tiles(tiles.height, tiles.width, tiles.origin)
        wanted = tiles.row_numbers * columns + tiles.column_numbers
        at = np.searchsorted(codes, wanted)
        found = (np.append(codes, -1)[at] == wanted) & (tiles.column_numbers < columns)
        kinds = np.where(found, MIXED, EMPTY).astype(np.uint8)
        if self.block >= max(tiles.height, tiles.width):
            kinds[found & self._within_block(tiles)] = FULL
        return kinds

    def _within_block(self, tiles: Tiles) -> Bools:
        """Whether each tile lies inside one pair of blocks."""
        below = (tiles.rows + tiles.height <= self.length) & (tiles.rows >= 0)
        below &= (tiles.columns + tiles.width <= self.length) & (tiles.columns >= 0)
        same_row = tiles.rows // self.block == (tiles.rows + tiles.height - 1) // self.block
        same_column = tiles.columns // self.block == (tiles.columns + tiles.width - 1) // self.block
        return np.asarray(below & same_row & same_column)

    def _tiles(self, height: int, width: int, origin: int) -> tuple[Ints, int]:
        """The numbers of all tiles of this size that hold a pair, and how many stand in a row."""
        name = (height, width, origin)
        if name not in self._touched:
            total = self.length - origin
            columns = -(-total // width)
            axes = ((self.rows, height), (self.keys, width))
            first = [(axis * self.block - origin) // size for axis, size in axes]
            last = [
                (np.minimum((axis + 1) * self.block, self.length) - 1 - origin) // size
                for axis, size in axes
            ]
            tall, wide = (end - start + 1 for start, end in zip(first, last, strict=True))
            each = tall * wide
            total_tiles = int(each.sum())
            if total_tiles > MAX_LINKS:
                raise TooLarge(f"the links touch more than {MAX_LINKS:,} tiles")
            link = np.repeat(np.arange(len(each)), each)
            place = np.arange(total_tiles) - np.repeat(np.cumsum(each) - each, each)
            row = first[0][link] + place // wide[link]
            column = first[1][link] + place % wide[link]
            self._touched[name] = np.unique(row * columns + column), columns
        return self._touched[name]

    def signature(self, tiles: Tiles) -> Ints:
        kinds = self.classify(tiles)
        names = kinds.astype(np.int64) - 3
        mixed = np.flatnonzero(kinds == MIXED)
        cells = (tiles.height // self.block) * (tiles.width // self.block)
        regular = tiles.height % self.block == 0 and tiles.width % self.block == 0
        if regular and tiles.origin % self.block == 0 and 0 < cells <= _MOST_CELLS:
            names[mixed] = self._cells(tiles.select(mixed))
            border = np.minimum(
                np.stack([self.length - tiles.rows, self.length - tiles.columns], axis=1),
                [tiles.height, tiles.width],
            )
            border[kinds != MIXED] = 0
            return np.concatenate([names[:, None], border], axis=1)
        code = np.stack([tiles.rows, tiles.columns], axis=1)
        return np.where((kinds == MIXED)[:, None], code, names[:, None])

    def _cells(self, tiles: Tiles) -> Ints:
        """Which pairs of blocks inside each tile are linked, as the bits of one number."""
        tall, wide = tiles.height // self.block, tiles.width // self.block
        found = np.zeros(len(tiles), dtype=np.int64)
        for down in range(tall):
            for right in range(wide):
                here = self.contains(
                    tiles.rows + down * self.block, tiles.columns + right * self.block
                )
                found |= here.astype(np.int64) << (down * wide + right)
        return found

    def dense(self, tiles: Tiles) -> Bools:
        found = np.zeros((len(tiles), tiles.height, tiles.width), dtype=np.bool_)
        # The links of each row of blocks that a tile meets, narrowed to the tile's columns.
        codes = self.codes
        first_row = np.maximum(tiles.rows, 0) // self.block
        last_row = (np.minimum(tiles.rows + tiles.height, self.length) - 1) // self.block
        first_key = np.maximum(tiles.columns, 0) // self.block
        last_key = (np.minimum(tiles.columns + tiles.width, self.length) - 1) // self.block
        for step in range(int((last_row - first_row).max(initial=-1)) + 1):
            row = first_row + step
            here = row <= last_row
            low = np.searchsorted(codes, row * self.num_keys + first_key)
            high = np.searchsorted(codes, row * self.num_keys + last_key, side="right")
            counts = np.where(here, np.maximum(high - low, 0), 0)
            tile = np.repeat(np.arange(len(tiles)), counts)
            at = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts - low, counts)
            key = codes[at] - row[tile] * self.num_keys
            self._fill(found, tiles, tile, row[tile] * self.block, key * self.block)
        return found

    def _fill(self, found: Bools, tiles: Tiles, tile: Ints, query: Ints, key: Ints) -> None:
        """Set the pairs of blocks that start at some queries and keys, as far as inside."""
        if self.block == 1:
            found[tile, query - tiles.rows[tile], key - tiles.columns[tile]] = True
            return
        top, left = query - tiles.rows[tile], key - tiles.columns[tile]
        bottom = np.minimum(query + self.block, self.length) - tiles.rows[tile]
        right = np.minimum(key + self.block, self.length) - tiles.columns[tile]
        rows, keys = np.arange(tiles.height), np.arange(tiles.width)
        down = (rows >= top[:, None]) & (rows < bottom[:, None])
        across = (keys >= left[:, None]) & (keys < right[:, None])
        np.logical_or.at(found, tile, down[:, :, None] & across[:, None, :])

    def runs(self, rows: Ints) -> Runs:
        block = np.clip(rows // self.block, 0, max(0, self.num_rows - 1))
        inside = (rows >= 0) & (rows < self.length)
        first = np.where(inside, self.offsets[block], 0)
        counts = np.where(inside, self.offsets[block + 1] - first, 0) if self.num_rows else first
        row = np.repeat(np.arange(len(rows)), counts)
        at = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts - first, counts)
        starts = self.keys[at] * self.block
        stops = np.minimum(starts + self.block, self.length)
        return Runs.of_ranges(len(rows), row, starts, stops)

    def transposed(self) -> Links:
        codes = np.sort(self.keys * self.num_rows + self.rows)
        counts = np.bincount(codes // max(1, self.num_rows), minlength=self.num_keys)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Links(
            offsets, codes % max(1, self.num_rows), self.num_rows, self.block, self.length
        )  # fmt: skip

    def in_blocks(self, size: int, length: int) -> Links:
        return Links(self.offsets, self.keys, self.num_keys, self.block * size, length)

    def zones(self, start: int, stop: int) -> Zones:
        queries, keys = self.rows * self.block, self.keys * self.block
        return rectangles(
            start, stop,
            queries, np.minimum(queries + self.block, self.length),
            keys, np.minimum(keys + self.block, self.length),
        )  # fmt: skip
