"""What one head computes: the parts of a plan, each in an order of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.tiles import NO_PLACE, TileRows

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Half:
    """Rows of tiles over the places of an order, or over positions when there is none.

    Shapes:
        order: int32 `(num_places,)`, the position at each place; see `Part`
    """

    order: NDArray[np.int32] | None
    rows: TileRows

    @cached_property
    def places(self) -> Ints:
        """The place of each position, `(num_positions,)`; an order must be given."""
        assert self.order is not None
        places = np.full(int(self.order.max()) + 1, NO_PLACE, dtype=np.int64)
        filled = np.flatnonzero(self.order != NO_PLACE)
        places[self.order[filled]] = filled
        return places

    def reads_of(self, positions: Ints) -> tuple[Ints, Ints]:
        """The pairs of some queries: which of them each is of, and its key, both as positions."""
        if self.order is None:
            return self.rows.reads_of(positions)
        number, keys = self.rows.reads_of(self.places[positions])
        return number, self.order[keys].astype(np.int64)


def row_block(halves: Sequence[Half], rows: slice) -> tuple[Ints, Bools]:
    """What some consecutive queries read, in all halves together.

    Returns:
        The keys in ascending order, `(num_keys,)`, and who reads what, `(queries, num_keys)`.
    """
    positions = np.arange(rows.start, rows.stop)
    found = [half.reads_of(positions) for half in halves]
    number, key = (np.concatenate(x) for x in zip(*found, strict=True))
    keys, column = np.unique(key, return_inverse=True)
    reads = np.zeros((len(positions), len(keys)), dtype=np.bool_)
    reads[number, column.reshape(-1)] = True
    return keys, reads


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a head's pairs, which is worked on in an order of its own.

    `order` gives the position at each place, counted from 0 with memory tokens included and -1 for
    an empty place; `None` when places are positions. `blocks` counts the tiles of the grid of
    places before packing: full, partial, and all.

    Shapes:
        order: int32 `(num_places,)`; every position once
    """

    order: NDArray[np.int32] | None
    order_name: str
    forward: TileRows
    transposed: TileRows
    blocks: tuple[int, int, int]

    @classmethod
    def of(cls, layout: BlockLayout) -> Part:
        """The tiles of a layout as they are."""
        blocks = layout.num_full, layout.num_partial, layout.num_tiles + layout.num_empty
        turned = layout.transpose()
        return cls(None, "identity", TileRows.of(layout), TileRows.of(turned), blocks)

    @property
    def num_bytes(self) -> int:
        order = 0 if self.order is None else self.order.nbytes
        return order + self.forward.num_bytes + self.transposed.num_bytes

    @property
    def half(self) -> Half:
        """The forward half with its order."""
        return Half(self.order, self.forward)

    def fingerprint(self) -> bytes:
        """A digest: equal parts, and in practice only those, have equal ones."""
        digest = hashlib.sha256(self.forward.fingerprint() + self.transposed.fingerprint())
        if self.order is not None:
            digest.update(self.order.tobytes())
        return digest.digest()

    def fault(self, query_len: int, kv_len: int) -> str | None:
        """What is wrong with a part that comes from outside, or `None`; see `TileRows.fault`."""
        forward, transposed = self.forward, self.transposed
        for half in (forward, transposed):
            if (fault := half.fault()) is not None:
                return fault
        if self.order is not None:
            if query_len != kv_len:
                return "an order must be of as many queries as keys"
            if self.order.dtype != np.int32 or self.order.ndim != 1:
                return "order must be int32 in 1 dimension"
            found = np.sort(self.order[self.order != NO_PLACE])
            if len(found) != query_len or not np.array_equal(found, np.arange(query_len)):
                return "order must name every position once"
            query_len = kv_len = len(self.order)
        sizes = (query_len, kv_len, forward.block_m, forward.block_n)
        if (forward.num_rows, forward.num_columns) != sizes[:2]:
            return f"forward must be of {query_len} x {kv_len} places"
        turned = (transposed.num_columns, transposed.num_rows)
        if (*turned, transposed.block_n, transposed.block_m) != sizes:
            return "transposed must have the sizes of forward, the other way round"
        return self._faulty_places()

    def _faulty_places(self) -> str | None:
        """Pairs of places that are empty."""
        if self.order is None:
            return None
        empty = self.order == NO_PLACE
        for half in (self.forward, self.transposed):
            if (half.places_used() & empty).any():
                return "no pair may be of an empty place"
        return None


@dataclass(frozen=True, eq=False)
class HeadLayout:
    """What one head computes: its pairs are those of the parts, each pair in one of them."""

    query_len: int
    kv_len: int
    block_m: int
    block_n: int
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, layout: BlockLayout) -> HeadLayout:
        """The tiles of a layout as they are."""
        sizes = layout.query_len, layout.kv_len, layout.block_m, layout.block_n
        return cls(*sizes, (Part.of(layout),))

    @classmethod
    def of_parts(cls, parts: tuple[Part, ...]) -> HeadLayout:
        """The parts of a head, of as many queries as keys."""
        forward, order = parts[0].forward, parts[0].order
        length = forward.num_rows if order is None else len(parts[0].half.places)
        return cls(length, length, forward.block_m, forward.block_n, parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Without what is made on demand.
        sizes = self.query_len, self.kv_len, self.block_m, self.block_n
        return HeadLayout, (*sizes, self.parts)

    @property
    def num_tiles(self) -> int:
        return sum(part.forward.num_tiles for part in self.parts)

    @property
    def num_full(self) -> int:
        return sum(part.forward.num_full for part in self.parts)

    @property
    def num_gathered(self) -> int:
        """Tiles with listed keys, full or not."""
        return sum(part.forward.num_gathered for part in self.parts)

    @property
    def num_bytes(self) -> int:
        return sum(part.num_bytes for part in self.parts)

    @cached_property
    def reads(self) -> int:
        """The number of pairs."""
        return sum(int(part.forward.row_counts().sum()) for part in self.parts)

    @property
    def halves(self) -> tuple[Half, ...]:
        """The forward halves of the parts."""
        return tuple(part.half for part in self.parts)

    def row_blocks(self) -> Iterator[slice]:
        """The queries, `block_m` at a time."""
        for first in range(0, self.query_len, self.block_m):
            yield slice(first, min(first + self.block_m, self.query_len))

    def to_dense(self) -> Bools:
        """The matrix itself, `(query_len, kv_len)`; for small lengths."""
        dense = np.zeros((self.query_len, self.kv_len), dtype=np.bool_)
        halves = self.halves
        for rows in self.row_blocks():
            keys, reads = row_block(halves, rows)
            dense[rows, keys] = reads
        return dense

    def transposed_to_dense(self) -> Bools:
        """The same matrix from the other halves, those for keys and values; likewise."""
        turned = tuple(
            Part(part.order, part.order_name, part.transposed, part.forward, part.blocks)
            for part in self.parts
        )
        sizes = self.kv_len, self.query_len, self.block_n, self.block_m
        return HeadLayout(*sizes, turned).to_dense().T

    def fault(self) -> str | None:
        """What is wrong with a layout that comes from outside, or `None`; see `Part.fault`."""
        for number, part in enumerate(self.parts):
            if (fault := part.fault(self.query_len, self.kv_len)) is not None:
                return f"part {number}: {fault}"
        return None

    def fingerprint(self) -> bytes:
        """A digest: equal ones mean equal parts."""
        return hashlib.sha256(b"".join(part.fingerprint() for part in self.parts)).digest()
