"""Matrices of bits, rows packed into bytes with the first bit lowest, as NumPy says "little"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

_PIECE = 1 << 17
"""Bytes of bits that are worked on at once."""


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
    # Rows are moved as few large words, not as many bytes.
    size = below.shape[1]
    table = below.view(f"u{size}") if size in (1, 2, 4, 8) else words(below)
    shape = np.broadcast_shapes(np.shape(first), np.shape(stop))
    first, stop = (np.broadcast_to(x, shape).reshape(-1) for x in (first, stop))
    found = np.empty((len(first), *table.shape[1:]), dtype=table.dtype)
    for some in _pieces(len(first), size):
        begin = np.minimum(np.maximum(first[some], 0), width)
        end = np.minimum(np.maximum(stop[some], begin), width)
        np.bitwise_xor(table.take(begin, axis=0), table.take(end, axis=0), out=found[some])
    return found.view(np.uint8).reshape(*shape, size)


def _pieces(num: int, each: int) -> Iterator[slice]:
    """Slices of `num` things of `each` bytes, so small that what is made of them stays in cache."""
    step = max(1, _PIECE // max(1, each))
    return (slice(begin, begin + step) for begin in range(0, num, step))


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
    rows = words(masks)
    while (height := rows.shape[1]) > 1:  # halves onto each other: long loops, not many short ones
        half = height // 2
        joined = rows[:, :half] | rows[:, half : 2 * half]
        if height % 2:
            joined[:, 0] |= rows[:, -1]
        rows = joined
    used = np.ascontiguousarray(rows[:, 0]).view(np.uint8)
    return np.unpackbits(used, axis=-1, count=width, bitorder="little").astype(np.bool_)


def different(masks: Bytes) -> tuple[Ints, Ints]:
    """The first of each set of equal matrices, in order, and the number of each matrix's set.

    >>> first, number = different(np.array([[[7]], [[1]], [[7]]], dtype=np.uint8))
    >>> first.tolist(), number.tolist()
    ([0, 1], [0, 1, 0])
    """
    if not masks.size:
        return np.zeros(min(1, len(masks)), np.int64), np.zeros(len(masks), np.int64)
    rows = words(masks.reshape(len(masks), -1))
    # Equal matrices have equal sums; whether those with equal sums are equal is looked at.
    _, first, number = np.unique(_sums(rows), return_index=True, return_inverse=True)
    number = number.reshape(-1)
    later = np.flatnonzero(first[number] != np.arange(len(rows)))
    if not np.array_equal(rows[later], rows[first[number[later]]]):
        names = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).reshape(-1)
        _, first, number = np.unique(names, return_index=True, return_inverse=True)
        number = number.reshape(-1)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[number]


def _sums(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """A number for each row; few different rows have the same."""
    weights = np.random.default_rng(0).integers(1 << 63, size=rows.shape[1], dtype=np.uint64)
    sums = np.empty(len(rows), dtype=np.uint64)
    for some in _pieces(len(rows), rows.shape[1] * 8):
        numbers = rows[some].astype(np.uint64)
        numbers ^= numbers >> np.uint64(32)  # else the highest bits would hardly count
        np.matmul(numbers, weights, out=sums[some])
    return sums


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
    found = np.empty((num, across, 8, down), dtype=np.uint8)
    # A word has the 8 bytes of 8 rows, one below the other.
    blocks = masks.reshape(num, down, 8, across).transpose(0, 3, 1, 2)
    for some in _pieces(num, height * across):
        words = blocks[some].copy("C").view("<u8")[..., 0]
        for shift, chosen in _STEPS:
            swapped = words >> np.uint64(shift)
            swapped ^= words
            swapped &= np.uint64(chosen)
            words ^= swapped
            swapped <<= np.uint64(shift)
            words ^= swapped
        found[some] = words[..., None].view(np.uint8).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(found.reshape(num, across * 8, down)[:, :width])
