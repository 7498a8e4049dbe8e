"""Finding equal rows of integers, exactly, without sorting the rows themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_MOST = 1 << 62


def alike(rows: NDArray[Any]) -> tuple[Ints, Ints]:
    """A group for each row, and the first row of each group; rows of a group are equal.

    The columns are joined to one number as far as 64 bits go; then the numbers that occur are
    counted through, and the next columns joined.

    >>> groups, first = alike(np.array([[1, 5], [2, 5], [1, 5]]))
    >>> groups.tolist(), first.tolist()
    ([0, 1, 0], [0, 1])
    """
    if not len(rows):
        none = np.zeros(0, dtype=np.int64)
        return none, none
    code = np.zeros(len(rows), dtype=np.int64)
    size = 1
    for column in rows.T:
        low = int(column.min())
        span = int(column.max()) - low + 1
        if span == 1:
            continue
        if size > _MOST // span:
            values, code = np.unique(code, return_inverse=True)
            code, size = code.reshape(-1).astype(np.int64), len(values)
        if size > _MOST // span:
            values, column = np.unique(column, return_inverse=True)
            low, span = 0, len(values)
        code *= span
        code += column.reshape(-1) - low
        size *= span
    _, first, groups = np.unique(code, return_index=True, return_inverse=True)
    return groups.reshape(-1).astype(np.int64), first.astype(np.int64)


def sortable(numbers: NDArray[Any], bound: int) -> NDArray[Any]:
    """Numbers below a bound in a type in which they are sorted quickest: small ones by counting."""
    return numbers.astype(np.uint16) if bound <= 1 << 16 else numbers


def by_first_use(numbers: Ints, count: int) -> tuple[Ints, Ints]:
    """Numbers below `count` anew, in the order in which they occur.

    Returns:
        The old number of each new one, and the new numbers.

    >>> used, numbers = by_first_use(np.array([3, 1, 3]), 5)
    >>> used.tolist(), numbers.tolist()
    ([3, 1], [0, 1, 0])
    """
    never = len(numbers)
    first = np.full(count, never, dtype=np.int64)
    first[numbers[::-1]] = np.arange(never - 1, -1, -1)  # what is written last stays
    used = np.argsort(first, kind="stable")[: np.count_nonzero(first < never)]
    new = np.empty(count, dtype=np.int64)
    new[used] = np.arange(len(used))
    return used, new[numbers]


def packed_numbers(numbers: NDArray[Any], bound: int) -> Ints:
    """Rows of numbers below a bound as fewer and larger ones: equal rows stay equal.

    >>> packed_numbers(np.array([[1, 2, 3]]), 4).tolist()
    [[27]]
    """
    bits = max(1, (bound - 1).bit_length())
    each = 62 // bits
    words = -(-numbers.shape[1] // each)
    found = np.zeros((len(numbers), words), dtype=np.int64)
    for column in range(numbers.shape[1]):
        word = found[:, column // each]
        word <<= bits
        word |= numbers[:, column]
    return found
