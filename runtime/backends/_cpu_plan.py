"""A plan as the CPU backend has it: as operands, as halves, and prepared."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from attnloom.compiler.parts import Half, HeadLayout
from attnloom.compiler.tiles import TileRows
from attnloom.runtime.backends._cpu_pieces import Prepared
from attnloom.runtime.cut_bands import RowsOfBand
from attnloom.runtime.plan import Operands

# Measured. PyTorch's fused attention computes 32 queries at a time below 192, then 64, and 256 from
# 768 on: larger units are faster for each pair, but compute more pairs. Products of matrices like
# large units too, and these write the gradients of the keys less often.
FORWARD_ROWS: RowsOfBand = (
    (16, 0.9), (32, 1.0), (64, 1.0), (128, 1.0), (256, 1.06), (768, 1.12), (1024, 1.12),
)  # fmt: skip
BACKWARD_ROWS: RowsOfBand = ((32, 0.65), (64, 0.88), (128, 1.0), (256, 1.05))

_ARRAYS = 8
"""Arrays of tile rows."""

_HEADER = 4
"""Sizes before those of the layouts: of queries, of keys, and of both in a tile."""


def operands(layouts: Sequence[HeadLayout], _: torch.Tensor) -> Operands:
    """The forward halves of a plan, each an order, empty if there is none, and its tile rows."""
    tensors = []
    for layout in layouts:
        for half in layout.halves:
            order = np.zeros(0, dtype=np.int32) if half.order is None else half.order
            tensors += [_tensor(array) for array in (order, *half.rows.arrays.values())]
    first = layouts[0]
    sizes = (first.query_len, first.kv_len, first.block_m, first.block_n)
    return Operands(tuple(tensors), (*sizes, *(len(layout.parts) for layout in layouts)))


def _tensor(array: np.ndarray) -> torch.Tensor:
    """The array as a tensor, sharing its memory where NumPy allows writing."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def halves_of(operands: Operands) -> tuple[tuple[Half, ...], ...]:
    """The halves of each layout, from operands."""
    query_len, kv_len, block_m, block_n = operands.sizes[:_HEADER]
    tensors = iter(operands.tensors)
    layouts = []
    for num_parts in operands.sizes[_HEADER:]:
        halves = []
        for _ in range(num_parts):
            order, *arrays = (next(tensors).numpy() for _ in range(1 + _ARRAYS))
            lengths = (len(order), len(order)) if len(order) else (query_len, kv_len)
            rows = TileRows(*lengths, block_m, block_n, *arrays)
            halves.append(Half(order if len(order) else None, rows))
        layouts.append(tuple(halves))
    return tuple(layouts)


@dataclass(frozen=True, eq=False)
class PreparedPart:
    """A part, cut. `order` is the position at each place, `places` the place of each position.

    Shapes:
        order: int64 `(num_places,)`, 0 at empty places; places: int64 `(num_positions,)`
    """

    prepared: Prepared
    order: torch.Tensor | None
    places: torch.Tensor | None

    @classmethod
    def of(cls, half: Half, rows_of_band: RowsOfBand) -> PreparedPart:
        prepared = Prepared.of(half.rows, rows_of_band)
        if half.order is None:
            return cls(prepared, None, None)
        order = torch.from_numpy(np.maximum(half.order, 0).astype(np.int64))
        return cls(prepared, order, torch.from_numpy(half.places))


class _Cached(NamedTuple):
    tensors: tuple[torch.Tensor, ...]
    prepared: dict[RowsOfBand, tuple[tuple[PreparedPart, ...], ...]]


# By a tensor of the plan, which lives as long as the plan does: the operators know no plans.
_cache: MutableMapping[torch.Tensor, _Cached] = WeakTensorKeyDictionary()


def prepare(
    operands: Operands, layout_of_head: torch.Tensor, rows_of_band: RowsOfBand
) -> tuple[tuple[PreparedPart, ...], ...]:
    """The parts of a plan's layouts, cut at the first call."""
    cached = _cache.get(layout_of_head)
    if cached is None or not _same(cached.tensors, operands.tensors):
        cached = _cache[layout_of_head] = _Cached(operands.tensors, {})
    # Threads that meet here do the same work twice, and either result will do.
    prepared = cached.prepared.get(rows_of_band)
    if prepared is None:
        prepared = tuple(
            tuple(PreparedPart.of(half, rows_of_band) for half in halves)
            for halves in halves_of(operands)
        )
        cached.prepared[rows_of_band] = prepared
    return prepared


def _same(some: tuple[torch.Tensor, ...], others: tuple[torch.Tensor, ...]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))
