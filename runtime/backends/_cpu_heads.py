"""Heads that are worked on together, and the views of tensors that this needs."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Heads(NamedTuple):
    """Heads that follow one layout: indices of batch and query heads, and of key heads.

    No two of them share a key head, so that sums over queries can be added to it at once.
    """

    batch: slice
    heads: slice
    kv_heads: slice

    def of_query(self, x: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, ...)`, contiguous, as `(heads chosen, ...)`, a view."""
        return _joined(x[self.batch, self.heads])

    def of_key(self, x: torch.Tensor) -> torch.Tensor:
        """`(batch, kv_heads, ...)`, contiguous, as `(heads chosen, ...)`, a view."""
        return _joined(x[self.batch, self.kv_heads])


EVERY = Heads(slice(None), slice(None), slice(None))
"""All heads, of which no two share a key head."""


def _joined(x: torch.Tensor) -> torch.Tensor:
    return x[0] if len(x) == 1 else x.view(-1, *x.shape[2:])


def head_groups(
    choice: list[list[int]], kv_heads: int, num_layouts: int, at_once: int
) -> list[list[Heads]]:
    """For each layout, the heads that follow it, in groups of about `at_once`.

    Args:
        choice: for each batch element the layout of each query head.
        kv_heads: the number of key heads, which divides that of query heads.
        num_layouts: how many layouts there are.
        at_once: how many heads a group may have, if more than one.

    Two query heads for each of two key heads, one layout:

    >>> for heads in head_groups([[0, 0, 0, 0]], 2, 1, at_once=8)[0]:
    ...     print(heads.heads, heads.kv_heads)
    slice(0, 3, 2) slice(0, 2, None)
    slice(1, 4, 2) slice(0, 2, None)
    """
    found: list[list[Heads]] = [[] for _ in range(num_layouts)]
    group = len(choice[0]) // kv_heads if choice else 1
    b = 0
    while b < len(choice):
        first = choice[b][0]
        if len(set(choice[b])) > 1:
            for h, number in enumerate(choice[b]):
                g = h // group
                found[number].append(Heads(slice(b, b + 1), slice(h, h + 1), slice(g, g + 1)))
            b += 1
            continue
        stop = b + 1
        while (
            stop < len(choice)
            and (stop + 1 - b) * kv_heads <= at_once
            and set(choice[stop]) == {first}
        ):
            stop += 1
        # Many batch elements with all their heads, or some of the heads of one.
        step = kv_heads if stop > b + 1 else max(1, min(kv_heads, at_once))
        for g in range(0, kv_heads, step):
            last = min(g + step, kv_heads)
            for j in range(group):
                heads = slice(g * group + j, (last - 1) * group + j + 1, group)
                found[first].append(Heads(slice(b, stop), heads, slice(g, last)))
        b = stop
    return found


def sliding(x: torch.Tensor, first: int, num_units: int, step: int, length: int) -> torch.Tensor:
    """Overlapping views of rows: `(heads, rows, d)` as `(heads, num_units, length, d)`.

    >>> sliding(torch.arange(6).view(1, 6, 1), 1, 2, 2, 3)[0, :, :, 0].tolist()
    [[1, 2, 3], [3, 4, 5]]
    """
    strides = (x.stride(0), step * x.stride(1), x.stride(1), x.stride(2))
    size = (len(x), num_units, length, x.shape[2])
    return x.as_strided(size, strides, x.storage_offset() + first * x.stride(1))


def chosen(x: torch.Tensor, rows: torch.Tensor | slice) -> torch.Tensor:
    """Rows of `(heads, rows, d)`: a view of a range, a copy of a list."""
    return x[:, rows] if isinstance(rows, slice) else x.index_select(1, rows)


def is_finite(x: torch.Tensor) -> bool:
    """Whether no number is infinite or NaN. Huge numbers may be taken for infinite ones."""
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    return bool(torch.isfinite(x.sum(dtype=exact)))
