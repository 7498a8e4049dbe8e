"""Masks in NumPy that papers speak of, from which a definition is put together, and inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def ij(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Query numbers down, key numbers across."""
    i, j = np.ogrid[:n, :n]
    return i, j


def query(n: int) -> NDArray[np.int64]:
    return ij(n)[0]


def key(n: int) -> NDArray[np.int64]:
    return ij(n)[1]


def back(n: int) -> NDArray[np.int64]:
    """How far the key is behind the query."""
    return query(n) - key(n)


def whole(n: int, *tokens: int) -> Mask:
    """Rows and columns of some tokens."""
    i, j = ij(n)
    return np.isin(i, tokens) | np.isin(j, tokens)


def band(n: int, back: int, ahead: int) -> Mask:
    i, j = ij(n)
    return (i - j <= back) & (j - i <= ahead)


def causal(n: int) -> Mask:
    return np.tri(n, dtype=bool)


def last(n: int, keys: int) -> Mask:
    return band(n, keys - 1, 0)


def same(n: int, label: Callable[[Any], Any]) -> Mask:
    """Query and key have the same label."""
    i, j = ij(n)
    return np.asarray(label(i) == label(j))


def of_blocks(n: int, size: int, block_mask: Callable[[int], Any]) -> Mask:
    """Every pair of blocks as all its pairs of tokens."""
    blocks = np.asarray(block_mask(-(-n // size)), dtype=bool)
    return blocks.repeat(size, 0).repeat(size, 1)[:n, :n]


def with_memory(tokens: Any, m: int, reads: bool = True, read: bool = True) -> Mask:
    """Memory tokens in front of a mask."""
    n = len(tokens)
    found = np.zeros((m + n, m + n), dtype=bool)
    found[m:, m:] = tokens
    found[:m] |= reads
    found[:, :m] |= read
    return found


def cells(n: int, *shape: int) -> list[tuple[int, ...]]:
    """The coordinates of the first n cells, the last axis fastest; the first axis has no end."""
    found = []
    for position in range(n):
        place = []
        for size in reversed(shape):
            place.append(position % size)
            position //= size
        found.append((position, *reversed(place)))
    return found


def by_cells(n: int, shape: tuple[int, ...], test: Callable[..., bool]) -> Mask:
    """The pairs of cells that pass a test on their coordinates."""
    place = cells(n, *shape)
    return np.array([[test(a, b) for b in place] for a in place], dtype=bool)


def axis_keys(x: int, size: int, keys: int, step: int = 1, skip: int = 1) -> list[int]:
    """NATTEN's window on one axis: of `keys` cells in steps, moving in strides of `skip`."""
    row = range(x % step, size, step)
    taken = min(keys, len(row))
    at = row.index(x)
    first_of_group = at - at % skip
    leader = min(first_of_group + skip // 2, len(row) - 1)
    start = min(max(leader - taken // 2, 0), len(row) - taken)
    return list(row[start : start + taken])


def neighborhood(
    n: int, shape: tuple[int, ...], keys: tuple[int, ...], step: int = 1, skip: int = 1
) -> Mask:
    """NATTEN's window on each axis; `shape` is all axes but the first."""
    row = int(np.prod(shape))
    sizes = (-(-n // row), *shape)
    return by_cells(
        n,
        shape,
        lambda a, b: all(
            y in axis_keys(x, size, k, step, skip)
            for x, y, size, k in zip(a, b, sizes, keys, strict=True)
        ),
    )


def tiles(n: int, width: int, down: int, right: int, moved: int = 0) -> Mask:
    return by_cells(
        n,
        (width,),
        lambda a, b: (
            (a[0] - moved) // down == (b[0] - moved) // down
            and (a[1] - moved) // right == (b[1] - moved) // right
        ),
    )


# --- inputs --------------------------------------------------------------------------------------


def thirds(n: int) -> list[int]:
    """Ids of uneven segments."""
    return [3 * t // (n + 1) + (t > n // 2) for t in range(n)]


def of_thirds(n: int) -> Mask:
    return same(n, np.array(thirds(n)).__getitem__)


def parents(n: int, root: int) -> list[list[int]]:
    """The ancestors of each node of a tree in which node t hangs on a node before it."""
    found: list[list[int]] = []
    for t in range(n):
        parent = root + (t - root) // 2 if t > root else None
        found.append([] if parent is None or parent == t else [*found[parent], parent])
    return found


def diagonals(n: int, *distances: int) -> list[list[int]]:
    return [[i - d for d in distances if i >= d] for i in range(n)]


def listed(links: list[list[int]]) -> Mask:
    found = np.zeros((len(links), len(links)), dtype=bool)
    for i, keys in enumerate(links):
        found[i, keys] = True
    return found
