"""Plans of some of the queries of another plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.parts import Half, HeadLayout
from attnloom.runtime.plan import Plan

Ints = NDArray[np.int64]


def plan_of_rows(plan: Plan, rows: Ints) -> Plan:
    """A plan whose queries are some of those of a plan, over the same keys.

    >>> import attnloom
    >>> plan = attnloom.parse("pattern p { window(last=2) }").compile(6)
    >>> plan_of_rows(plan, np.array([[4, 0, -1]])).to_dense()[0, 0].int().tolist()
    [[0, 0, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]

    Args:
        plan: the plan.
        rows: `(batch or 1, count)`, positions of queries; one that is -1 reads nothing.
    """
    choice = plan.layout_of_head.cpu().numpy()
    batch = max(len(rows), len(choice))
    found: list[BlockLayout] = []
    known: dict[tuple[int, bytes], int] = {}
    numbers = np.zeros((batch, choice.shape[1]), dtype=np.int64)
    for element, head in np.ndindex(*numbers.shape):
        layout = int(choice[element % len(choice), head])
        wanted = rows[element % len(rows)]
        key = (layout, wanted.tobytes())
        if key not in known:
            known[key] = len(found)
            found.append(layout_of_rows(plan.layouts[layout], wanted))
        numbers[element, head] = known[key]
    return Plan.from_layouts(found, numbers, device=plan.device)


def reads_of(halves: Sequence[Half], rows: Ints) -> tuple[Ints, Ints]:
    """The pairs of some queries: which of them each pair is of, and its key; ascending.

    A row that is -1 reads nothing.
    """
    there = np.flatnonzero(rows >= 0)
    pairs = [half.reads_of(rows[there]) for half in halves]
    number, key = (np.concatenate(x).astype(np.int64) for x in zip(*pairs, strict=True))
    order = np.lexsort((key, number))
    return there[number[order]], key[order]


def layout_of_rows(layout: HeadLayout, rows: Ints) -> BlockLayout:
    """The layout of some queries of a head."""
    number, key = reads_of(layout.halves, rows)
    block_m, block_n = layout.block_m, layout.block_n
    width = -(-layout.kv_len // block_n)
    code, tile = np.unique(number // block_m * width + key // block_n, return_inverse=True)
    masks = np.zeros((len(code), block_m, block_n), dtype=np.bool_)
    masks[tile.reshape(-1), number % block_m, key % block_n] = True
    return layout_of_tiles(len(rows), layout.kv_len, code // width, code % width, masks)


def layout_of_tiles(
    query_len: int, kv_len: int, rows: Ints, columns: Ints, masks: NDArray[np.bool_]
) -> BlockLayout:
    """The layout of tiles, sorted by rows and then columns, each of which has a pair.

    Shapes:
        rows, columns: `(num_tiles,)`
        masks: `(num_tiles, block_m, block_n)`, false beyond the lengths
    """
    _, block_m, block_n = masks.shape
    full = masks.all((1, 2))
    ids = np.full(len(rows), FULL, dtype=np.int32)
    packed = np.packbits(masks[~full], axis=-1, bitorder="little")
    different, which = np.unique(packed, axis=0, return_inverse=True)
    ids[~full] = which.reshape(-1)
    blocks = np.arange(-(-query_len // block_m) + 1)
    return BlockLayout(
        query_len, kv_len, block_m, block_n,
        row_offsets=np.searchsorted(rows, blocks).astype(np.int64),
        column_indices=columns.astype(np.int32),
        mask_ids=ids,
        masks=different.reshape(-1, block_m, -(-block_n // 8)),
    )  # fmt: skip
