"""Arrival, to be drawn: after which layer the tokens of a stretch know of a source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.analysis.figures import Method
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.analysis.table import Table, Words
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.runs import Ints

MOST_LAYERS = 64
"""Layers that are followed at most."""

_MOST_WORK = 1 << 24
"""Ranges united and positions looked at, for 64 sources each, over all layers."""

_LONG, _FEW_SOURCES = 1 << 17, 64
"""Positions beyond which only so many sources are followed."""


@dataclass(frozen=True, eq=False)
class Arrival:
    """Stretches of queries against single sources.

    Shapes:
        edges: `(num_stretches + 1,)`, the positions at which the stretches begin, and the end
        sources: `(num_sources,)`, positions
        known: `(num_stretches, num_sources)`, how many of a stretch come to know of a source
        layers: likewise, the mean layer after which they do; 0 where none does
        last: the last layer after which anything was new
        followed: the layers that were followed; `None` if no more would tell anything new
    """

    edges: Ints
    sources: Ints
    known: Ints
    layers: NDArray[np.float64]
    last: int
    followed: int | None
    method: Method


def arrival(stack: Stack, cells: int) -> Arrival | None:
    """The layers of a stack followed from some sources on, all of them if there are few.

    Information passes through the layers in their order, as far as a bounded amount of work
    goes. `None` where that is not even one layer.
    """
    count = min(cells if stack.length <= _LONG else _FEW_SOURCES, stack.length)
    edges = np.linspace(0, stack.length, count + 1).round().astype(np.int64)
    sources = (edges[:-1] + edges[1:]) // 2
    try:
        tables = [kind.tokens.table for kind in stack.kinds]
    except TooLarge:
        return None
    words = _own(sources, stack.length)
    steps = stack.order if stack.is_counted else (0,) * MOST_LAYERS
    work = np.cumsum([(tables[kind].num_ranges + stack.length) * len(words) for kind in steps])
    steps = steps[: min(MOST_LAYERS, int(np.searchsorted(work, _MOST_WORK, side="right")))]
    if not steps:
        return None
    known, total, last = np.zeros((count, count), dtype=np.int64), np.zeros((count, count)), 0
    followed: int | None = len(steps)
    for layer, kind in enumerate(steps, start=1):
        fresh = _learnt(tables[kind], words)
        if fresh.any():
            new = _per_stretch(fresh, edges)[:, :count]
            known, total, last = known + new, total + layer * new, layer
            words |= fresh
        elif stack.is_uniform:
            followed = None
            break
    layers = total / np.maximum(known, 1)
    is_exact = count == stack.length
    method = Method("search", is_exact=is_exact, samples=0 if is_exact else count)
    places = edges + stack.start, sources + stack.start
    return Arrival(*places, known, layers, last, followed, method)


def _own(sources: Ints, length: int) -> Words:
    """Every source knows of itself."""
    number = np.arange(len(sources))
    words = np.zeros((-(-len(sources) // 64), length), dtype=np.uint64)
    words[number // 64, sources] = np.left_shift(np.uint64(1), (number % 64).astype(np.uint64))
    return words


def _learnt(table: Table, words: Words) -> Words:
    """What each position learns in a layer that it did not know."""
    return np.asarray(table.gather(words) & ~words)


def _per_stretch(words: Words, edges: Ints) -> Ints:
    """How many positions of each stretch have each bit, `(num_stretches, 64 * num_words)`."""
    found = []
    for word in words:
        bytes_ = word.astype("<u8").view(np.uint8).reshape(-1, 8)
        bits = np.unpackbits(bytes_, axis=1, bitorder="little")
        found.append(np.add.reduceat(bits, edges[:-1], axis=0, dtype=np.int64))
    return np.concatenate(found, axis=1)
