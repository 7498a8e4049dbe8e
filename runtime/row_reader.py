"""Which keys a few queries of a plan read, and which later ones still read each key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.tiles import TileRows
from attnloom.runtime.plan import Plan
from attnloom.runtime.rows import reads_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_PAIRS_AT_ONCE = 1 << 22
_REMEMBERED = 4


@dataclass(frozen=True)
class Reads:
    """What some queries read: the keys that any of them reads, and who reads which.

    Shapes:
        keys: int64 `(batch or 1, most)`, ascending, then -1
        allowed: bool `(batch or 1, heads or 1, count, most)`
    """

    keys: Ints
    allowed: Bools


class RowReader:
    """Answers which keys some queries of a plan read; plans of several layers may share one.

    >>> import attnloom
    >>> reader = RowReader(attnloom.load("streaming_llm", sinks=1, recent=2).compile(10))
    >>> reader.reads(np.array([[7]])).keys.tolist(), reader.most_live
    ([[0, 6, 7]], 3)
    """

    def __init__(self, plan: Plan, heads: Ints | None = None) -> None:
        self.plan = plan
        choice = plan.layout_of_head.cpu().numpy()
        self._choice = choice if heads is None else choice[:, heads]
        self._known: OrderedDict[bytes, Reads] = OrderedDict()
        self._groups: dict[int, list[HeadGroup]] = {}

    def reads(self, positions: Ints) -> Reads:
        """The reads of queries `(batch or 1, count)`; a position that is -1 reads nothing."""
        if len(positions) > 1 and (positions == positions[0]).all():
            positions = positions[:1]
        name = repr(positions.shape).encode() + positions.tobytes()
        if name in self._known:
            self._known.move_to_end(name)
            return self._known[name]
        found = self._reads(positions)
        self._known[name] = found
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _reads(self, positions: Ints) -> Reads:
        batch = max(len(positions), len(self._choice))
        same_heads = all((row == row[0]).all() for row in self._choice)
        choice = self._choice[:, :1] if same_heads else self._choice
        known: dict[tuple[int, int], tuple[Ints, Ints]] = {}
        for element in range(batch):
            for layout in set(choice[element % len(choice)].tolist()):
                place = element % len(positions), layout
                if place not in known:
                    halves = self.plan.layouts[layout].halves
                    known[place] = reads_of(halves, positions[place[0]])
        rows = [
            [known[element % len(positions), int(one)] for one in choice[element % len(choice)]]
            for element in range(batch)
        ]
        unions = [np.unique(np.concatenate([key for _, key in heads])) for heads in rows]
        most = max(1, max(map(len, unions)))
        keys = np.full((batch, most), -1, dtype=np.int64)
        allowed = np.zeros((batch, choice.shape[1], positions.shape[1], most), dtype=np.bool_)
        for element, heads in enumerate(rows):
            keys[element, : len(unions[element])] = unions[element]
            for head, (number, key) in enumerate(heads):
                allowed[element, head, number, np.searchsorted(unions[element], key)] = True
        return Reads(keys, allowed)

    def groups(self, kv_heads: int) -> list[HeadGroup]:
        """The heads of the keys, those together whose keys are read equally long.

        Raises:
            ValueError: so many do not divide the query heads.
        """
        heads = self._choice.shape[1]
        if heads % kv_heads:
            raise ValueError(f"key must have a divisor of {heads} heads, got {kv_heads}")
        if kv_heads not in self._groups:
            self._groups[kv_heads] = list(self._make_groups(kv_heads))
        return self._groups[kv_heads]

    def _make_groups(self, kv_heads: int) -> Iterator[HeadGroup]:
        readers = np.arange(self._choice.shape[1]).reshape(kv_heads, -1)
        last: dict[bytes, Ints] = {}  # by the layouts that the query heads have
        together: dict[bytes, list[int]] = {}
        for kv_head, heads in enumerate(readers):
            layouts = np.unique(self._choice[:, heads])
            name = layouts.tobytes()
            if name not in last:
                last[name] = _last_of(self.plan, layouts)
            together.setdefault(last[name].tobytes(), []).append(kv_head)
        for members in together.values():
            heads = readers[members].reshape(-1)
            reader = self if len(together) == 1 else RowReader(self.plan, heads)
            yield HeadGroup(np.array(members), heads, reader)

    @cached_property
    def last_reader(self) -> Ints:
        """The last query that reads each key in any head, -1 for none: `(kv_len,)`."""
        return _last_of(self.plan, np.unique(self._choice))

    @cached_property
    def most_live(self) -> int:
        """The most keys that must be kept at once: what a decoder of this plan needs room for."""
        last = self.last_reader
        born = np.flatnonzero(last >= np.arange(len(last)))
        change = np.bincount(born, minlength=len(last) + 1)
        change -= np.bincount(last[born] + 1, minlength=len(last) + 1)
        return max(1, int(np.cumsum(change).max()))

    @cached_property
    def dying(self) -> tuple[Ints, Ints]:
        """The keys that are read last by each query: offsets `(query_len + 1,)`, and the keys."""
        order = np.argsort(self.last_reader, kind="stable")
        steps = np.arange(self.plan.query_len + 1)
        return np.searchsorted(self.last_reader[order], steps), order


@dataclass(frozen=True)
class HeadGroup:
    """Some heads of the keys, the query heads that read them, and a reader of these."""

    kv_heads: Ints
    heads: Ints
    reader: RowReader

    def pick(self, x: torch.Tensor) -> torch.Tensor:
        """The heads of this group, of keys or values `(batch, kv_heads, length, head_dim)`."""
        if len(self.kv_heads) == x.shape[1]:
            return x
        return x[:, torch.from_numpy(self.kv_heads).to(x.device)]


def _last_of(plan: Plan, layouts: NDArray[np.integer[Any]]) -> Ints:
    """The last query that reads each key in any of some layouts of a plan."""
    found = np.full(plan.kv_len, -1, dtype=np.int64)
    for layout in layouts.tolist():
        np.maximum(found, last_readers(plan.layouts[layout]), out=found)
    return found


def last_readers(layout: HeadLayout) -> Ints:
    """The last query that reads each key of a head, -1 for none.

    >>> import attnloom
    >>> plan = attnloom.parse("pattern p { window(last=3); only broadcast(every 2) }").compile(6)
    >>> last_readers(plan.layouts[0]).tolist()
    [2, -1, 4, -1, 5, -1]
    """
    found = np.full(layout.kv_len, -1, dtype=np.int64)
    for part in layout.parts:
        np.maximum(found, _last_met(part.transposed, part.order), out=found)
    return found


def reads_ahead(layout: HeadLayout) -> bool:
    """Whether some query of a head reads a later key."""
    queries = np.arange(layout.query_len)
    return any((_last_met(one.forward, one.order) > queries).any() for one in layout.parts)


def _last_met(half: TileRows, order: NDArray[np.int32] | None) -> Ints:
    """The last position that each row meets, as positions of both, -1 for none."""
    if order is None and _ascend(half):
        return _last_place(half)
    places = np.arange(half.num_rows) if order is None else order.astype(np.int64)
    found = np.full(int(places.max()) + 1, -1, dtype=np.int64)
    for start in range(0, half.num_rows, half.block_m):
        some = np.arange(start, min(start + half.block_m, half.num_rows))
        number, met = half.reads_of(some)
        np.maximum.at(found, places[some[number]], places[met])
    return found


def _last_place(half: TileRows) -> Ints:
    """The last place that each row meets, tile by tile and not pair by pair."""
    found = np.full(half.num_rows, -1, dtype=np.int64)
    # In every mask, the last column of each row, `(num_masks, block_m)`.
    bits = np.unpackbits(half.masks, axis=-1, count=half.block_n, bitorder="little")
    last = np.where(bits.any(-1), half.block_n - 1 - bits[..., ::-1].argmax(-1), -1)
    # FULL is -1, the last of all.
    last = np.concatenate([last, np.full((1, half.block_m), half.block_n - 1)])
    rows = half.tile_rows()
    tiles = np.flatnonzero(_may_be_last(half, rows))
    step = max(1, _PAIRS_AT_ONCE // half.block_m)
    for first in range(0, len(tiles), step):
        some = tiles[first : first + step]
        column, local = half.columns[some].astype(np.int64), last[half.mask_ids[some]]
        met = column[:, None] * half.block_n + local
        listed = column < 0
        met[listed] = half.gathered[-1 - column[listed][:, None], local[listed]]
        owners = _places_of(half, rows[some])
        used = (local >= 0) & (owners >= 0)
        np.maximum.at(found, owners[used], met[used])
    return found


def _may_be_last(half: TileRows, rows: Ints) -> Bools:
    """Which tiles may hold the last place of a row: not the full ones before another full one."""
    full = (half.mask_ids == FULL) & (half.columns >= 0)
    largest = np.full(int(rows.max(initial=0)) + 1, -1, dtype=np.int64)
    np.maximum.at(largest, rows[full], half.columns[full])
    chosen: Bools = ~full | (half.columns == largest[rows])
    return chosen


def _ascend(half: TileRows) -> bool:
    """Whether every gathered list ascends, so that its last place is its largest."""
    lists = half.gathered
    return bool(((np.diff(lists, axis=1) > 0) | (lists[:, 1:] < 0)).all())


def _places_of(half: TileRows, rows: Ints) -> Ints:
    """The places of some rows of tiles, -1 for none, `(len(rows), block_m)`."""
    places = rows[:, None] * half.block_m + np.arange(half.block_m)
    found = np.where(places < half.num_rows, places, -1)
    own = half.listed[half.listed >= 0]
    if len(own):
        # A place that is listed belongs to its listed row alone.
        taken = np.zeros(half.num_rows, dtype=np.bool_)
        taken[own] = True
        found[(found >= 0) & taken[np.maximum(found, 0)]] = -1
        listed = rows >= half.num_regular
        found[listed] = half.listed[rows[listed] - half.num_regular]
    return found
