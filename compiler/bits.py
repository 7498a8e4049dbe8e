"""Matrices of bits, rows packed into bytes with the first bit lowest, as NumPy says "little"."""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def ranges(first: Ints, stop: Ints, width: int) -> Bytes:
    """Rows of `width` bits, of which those from `first` up to `stop` are set.

    What lies beyond the row is cut off; where `stop` is not above `first`, no bit is set.

    Shapes:
        first, stop: `(...)`; the rows: `(..., ceil(width / 8))`

    >>> np.unpackbits(ranges(np.array([1, -9]), np.array([3, 2]), 5), axis=-1, bitorder="little")
    array([[0, 1, 1, 0, 0, 0, 0, 0],
           [1, 1, 0, 0, 0, 0, 0, 0]], dtype=uint8)
    """
    below = _first_bits(width)
    first = np.minimum(np.maximum(first, 0), width)
    stop = np.minimum(np.maximum(stop, first), width)
    # Rows are moved as few large words, not as many bytes.
    size = below.shape[1]
    table = below.view(f"u{size}") if size in (1, 2, 4, 8) else words(below)
    found = np.take(table, stop, axis=0)
    found &= ~np.take(table, first, axis=0)
    return found.view(np.uint8).reshape(*first.shape, size)


@lru_cache(maxsize=64)
def _first_bits(width: int) -> Bytes:
    """Row `k` has its first `k` bits set, `(width + 1, ceil(width / 8))`."""
    found = np.packbits(np.tri(width + 1, width, -1, dtype=np.bool_), axis=-1, bitorder="little")
    found.flags.writeable = False
    return found


def words(masks: Bytes) -> NDArray[Any]:
    """The same rows as numbers of 64 bits, where they are of so many; else as they are.

    >>> words(np.ones((2, 16), dtype=np.uint8)).shape
    (2, 2)
    """
    return np.ascontiguousarray(masks).view(np.uint64) if masks.shape[-1] % 8 == 0 else masks


def num_set(masks: Bytes) -> Ints:
    """How many bits of each matrix are set, `(num_masks,)`."""
    return np.asarray(np.bitwise_count(words(masks)).sum((1, 2), dtype=np.int64))


def rows_used(masks: Bytes) -> NDArray[np.bool_]:
    """Which rows have a bit set, `(num_masks, height)`."""
    rows = words(masks)
    joined = reduce(np.bitwise_or, (rows[..., number] for number in range(rows.shape[-1])))
    return np.asarray(joined != 0)


def columns_used(masks: Bytes, width: int) -> NDArray[np.bool_]:
    """Which columns have a bit set, `(num_masks, width)`."""
    joined = np.bitwise_or.reduce(words(masks), axis=1).view(np.uint8)
    return np.unpackbits(joined, axis=-1, count=width, bitorder="little").astype(np.bool_)


def different(masks: Bytes) -> tuple[Ints, Ints]:
    """The first of each set of equal matrices, in order, and the number of each matrix's set.

    >>> first, number = different(np.array([[[7]], [[1]], [[7]]], dtype=np.uint8))
    >>> first.tolist(), number.tolist()
    ([0, 1], [0, 1, 0])
    """
    if not masks.size:
        return np.zeros(min(1, len(masks)), np.int64), np.zeros(len(masks), np.int64)
    rows = words(masks.reshape(len(masks), -1))
    # Equal matrices have equal sums; whether the others differ is looked at.
    weights = np.random.default_rng(0).integers(1 << 63, size=rows.shape[1], dtype=np.uint64)
    sums = rows.astype(np.uint64, copy=False) @ weights
    _, first, number = np.unique(sums, return_index=True, return_inverse=True)
    number = number.reshape(-1)
    if len(first) < len(rows) and not np.array_equal(rows, rows[first[number]]):
        names = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).reshape(-1)
        _, first, number = np.unique(names, return_index=True, return_inverse=True)
        number = number.reshape(-1)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[number]


_STEPS = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
"""How 8 x 8 bits in a word are transposed: Warren, Hacker's Delight, section 7-3."""


def turned(masks: Bytes, width: int) -> Bytes:
    """Matrices with rows and columns exchanged.

    Shapes:
        masks: `(num, height, ceil(width / 8))`; the others: `(num, width, ceil(height / 8))`

    >>> turned(np.array([[[0b110], [0b010]]], dtype=np.uint8), 3).tolist()
    [[[0], [3], [1]]]
    """
    num, height, across = masks.shape
    down = -(-height // 8)
    if height % 8:
        masks = np.concatenate([masks, np.zeros((num, -height % 8, across), np.uint8)], axis=1)
    # A word has the 8 bytes of 8 rows, one below the other.
    blocks = masks.reshape(num, down, 8, across).transpose(0, 3, 1, 2)
    words = np.ascontiguousarray(blocks).view("<u8")[..., 0]
    for shift, chosen in _STEPS:
        swapped = (words ^ (words >> np.uint64(shift))) & np.uint64(chosen)
        words = words ^ swapped ^ (swapped << np.uint64(shift))
    found = words[..., None].view(np.uint8).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(found.reshape(num, across * 8, down)[:, :width])
