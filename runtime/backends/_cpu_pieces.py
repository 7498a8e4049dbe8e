"""The pieces of a layout as tensors, and the heads to run them on: what both passes share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.weak import WeakTensorKeyDictionary

from attnloom.runtime.pieces import Band, Gathered, LongRows, Pieces, SharedKeys, cut
from attnloom.runtime.plan import PlanLayout

# Measured with `bench/cpu.py`: PyTorch's fused attention computes 32 queries at a time below 192,
# then 64, then 256 from 768 on; larger units are faster for each pair, but compute more pairs.
FORWARD_ROWS = ((16, 0.9), (32, 1.0), (64, 1.0), (128, 1.0), (256, 1.06), (768, 1.12), (1024, 1.12))
BACKWARD_ROWS = ((32, 0.6), (64, 0.9), (128, 1.0), (256, 1.05))

CHUNK_ELEMENTS = 1 << 18
"""Elements of the largest tensor made for one chunk of a piece: small enough for the cache, and
for the allocator to keep (fresh memory costs more than the work on it)."""

_TABLE_ELEMENTS = 1 << 24
"""Elements of a table of masks up to which it is kept as numbers rather than as booleans."""

_KEPT_PAIRS = 1 << 22
"""Gathered pairs of a layout up to which its chunks are kept from call to call."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some units of a `Gathered`, as indices. Their queries are sorted and differ.

    Shapes:
        rows: `(num_units * block_m,)`, clipped to the last query; keys: `(num_units * num_keys,)`,
        clipped to the last key; blocks: `(num_units * width,)`, the numbers of the key blocks;
        mask: `(num_units, block_m, num_keys)`, 0 or -inf; silent: `(num_units * block_m,)`
    """

    num_units: int
    rows: torch.Tensor
    num_valid: int
    keys: torch.Tensor | slice
    blocks: torch.Tensor
    mask: torch.Tensor | None
    silent: torch.Tensor | None
    merges: bool


@dataclass(frozen=True, eq=False)
class Prepared:
    """The pieces of a layout with their constant tensors."""

    layout: PlanLayout
    pieces: Pieces
    band_masks: tuple[torch.Tensor | None, ...]
    shared_keys: tuple[torch.Tensor, ...]
    masks: torch.Tensor
    kept: dict[int, tuple[Chunk, ...]] = field(default_factory=dict)
    """Chunks made before, by head_dim, where they are small enough to be kept."""

    @classmethod
    def of(cls, layout: PlanLayout, rows_of_band: tuple[tuple[int, float], ...]) -> Prepared:
        pieces = cut(layout.block_layout, rows_of_band=rows_of_band)
        masks = torch.from_numpy(pieces.masks)
        if masks.numel() <= _TABLE_ELEMENTS:
            masks = additive(masks)
        return cls(
            layout,
            pieces,
            tuple(None if b.mask is None else additive(_tensor(b.mask)) for b in pieces.bands),
            tuple(torch.from_numpy(part.keys) for part in pieces.shared),
            masks,
        )

    def bands(self) -> Iterator[tuple[Band, torch.Tensor | None]]:
        return zip(self.pieces.bands, self.band_masks, strict=True)

    def shared(self) -> Iterator[tuple[SharedKeys, torch.Tensor]]:
        return zip(self.pieces.shared, self.shared_keys, strict=True)

    def chunks(self, head_dim: int) -> Iterator[Chunk]:
        """The gathered units, cut so that keys and mask of a chunk stay small."""
        if head_dim not in self.kept:
            chunks = self._make_chunks(head_dim)
            if self._num_gathered() > _KEPT_PAIRS:
                return chunks
            self.kept[head_dim] = tuple(chunks)
        return iter(self.kept[head_dim])

    def _num_gathered(self) -> int:
        """Pairs in the gathered units."""
        blocks = sum(part.columns.size for part in self.pieces.gathered)
        return blocks * self.pieces.block_m * self.pieces.block_n

    def _make_chunks(self, head_dim: int) -> Iterator[Chunk]:
        for part in self.pieces.gathered:
            num_keys = part.columns.shape[1] * self.pieces.block_n
            each = num_keys * max(head_dim, self.pieces.block_m)
            step = max(1, 4 * CHUNK_ELEMENTS // each)
            for start in range(0, len(part.first_rows), step):
                yield self._chunk(part, slice(start, start + step))

    def _chunk(self, part: Gathered, units: slice) -> Chunk:
        block_m, block_n = self.pieces.block_m, self.pieces.block_n
        first_rows, columns = part.first_rows[units], part.columns[units]
        rows = (first_rows[:, None] + np.arange(block_m)).reshape(-1)
        query_len, kv_len = self.layout.query_len, self.layout.kv_len
        first = int(columns[0, 0])
        keys: torch.Tensor | slice
        if (
            len(columns) == 1
            and columns[0, -1] - first == columns.shape[1] - 1
            and (int(columns[0, -1] + 1) * block_n <= kv_len)
        ):
            keys = slice(first * block_n, int(columns[0, -1] + 1) * block_n)
        else:
            every = (columns[:, :, None] * block_n + np.arange(block_n)).reshape(-1)
            keys = torch.from_numpy(np.minimum(every, kv_len - 1))
        mask = None
        if not part.is_full:
            ids = torch.from_numpy(np.ascontiguousarray(part.mask_ids[units]))
            tiles = self.masks[ids].transpose(1, 2).reshape(len(ids), block_m, -1)
            mask = additive(tiles) if tiles.dtype == torch.bool else tiles
        silent = None if part.silent is None else _tensor(part.silent[units].reshape(-1))
        return Chunk(
            len(columns),
            torch.from_numpy(np.minimum(rows, query_len - 1)),
            int(np.count_nonzero(rows < query_len)),
            keys,
            torch.from_numpy(columns.reshape(-1)),
            mask,
            silent,
            part.merges,
        )


def long_mask(part: LongRows) -> torch.Tensor | None:
    """The mask of long rows, bool `(num_rows, num_keys)`."""
    if part.mask is None:
        return None
    length = part.stop_key - part.first_key
    bits = np.unpackbits(part.mask, axis=-1, count=length, bitorder="little")
    return torch.from_numpy(bits).bool()


def additive(allowed: torch.Tensor) -> torch.Tensor:
    """A boolean mask as the float32 to be added to the scores: 0 or -inf."""
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)


def _tensor(array: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


class _Cached(NamedTuple):
    tiles: tuple[torch.Tensor, ...]
    prepared: dict[str, tuple[Prepared, ...]]


# By the tensors of the plan, which live as long as the plan does: the operators know no plans.
_cache: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def prepare(
    layouts: Sequence[PlanLayout], layout_of_head: torch.Tensor, which: str
) -> tuple[Prepared, ...]:
    """The pieces of a plan's layouts, for the `"forward"` or the `"backward"` pass."""
    tiles = tuple(tensor for layout in layouts for tensor in layout.tensors)
    cached = _cache.get(layout_of_head)
    if (
        cached is None
        or len(cached.tiles) != len(tiles)
        or any(old is not new for old, new in zip(cached.tiles, tiles, strict=True))
    ):
        cached = _cache[layout_of_head] = _Cached(tiles, {})
    if which not in cached.prepared:
        rows = FORWARD_ROWS if which == "forward" else BACKWARD_ROWS
        cached.prepared[which] = tuple(Prepared.of(layout, rows) for layout in layouts)
    return tuple(cached.prepared[which])


class Heads(NamedTuple):
    """Heads that follow one layout: indices of batch and query heads, and of key heads."""

    batch: slice
    heads: slice
    kv_heads: slice

    def of_query(self, x: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, ...)` as `(heads chosen, ...)`, a view."""
        return _joined(x[self.batch, self.heads])

    def of_key(self, x: torch.Tensor) -> torch.Tensor:
        """`(batch, kv_heads, ...)` as `(heads chosen, ...)`, a view."""
        return _joined(x[self.batch, self.kv_heads])


def _joined(x: torch.Tensor) -> torch.Tensor:
    return x[0] if len(x) == 1 else x.view(-1, *x.shape[2:])


def even(x: torch.Tensor) -> torch.Tensor:
    """`x` such that a row of features is contiguous and `Heads` can make views of it."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def head_groups(
    layout_of_head: torch.Tensor,
    batch: int,
    kv_heads: int,
    num_layouts: int,
    per_group: int,
    *tensors: torch.Tensor,
) -> list[list[Heads]]:
    """For each layout, the heads that follow it, in groups of about `per_group`.

    A group never has two query heads of one key head, so that sums over queries can be added to it
    at once; `tensors` are those of which views will be made.
    """
    choice = layout_of_head.expand(batch, -1).tolist()
    num_heads = len(choice[0])
    group = num_heads // kv_heads
    found: list[list[Heads]] = [[] for _ in range(num_layouts)]
    uniform = [row[0] if len(set(row)) == 1 else None for row in choice]
    joinable = all(x.stride(0) == x.shape[1] * x.stride(1) for x in tensors)
    b = 0
    while b < batch:
        number = uniform[b]
        if number is None:
            for h in range(num_heads):
                g = h // group
                found[choice[b][h]].append(Heads(slice(b, b + 1), slice(h, h + 1), slice(g, g + 1)))
            b += 1
            continue
        stop = b + 1
        while (
            joinable
            and stop < batch
            and uniform[stop] == number
            and (stop + 1 - b) * kv_heads <= per_group
        ):
            stop += 1
        step = max(1, min(kv_heads, per_group))
        for first in range(0, kv_heads, step) if stop == b + 1 else (0,):
            last = min(first + step, kv_heads) if stop == b + 1 else kv_heads
            for j in range(group):
                heads = slice(first * group + j, (last - 1) * group + j + 1, group)
                found[number].append(Heads(slice(b, stop), heads, slice(first, last)))
        b = stop
    return found
