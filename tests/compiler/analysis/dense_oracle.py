"""An independent reading of the definitions, for small patterns: dense masks and networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
from numpy.typing import NDArray

import attnloom
from attnloom import Pattern

Matrix = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def union(pattern: Pattern, n: int, heads: int, layer: int, layers: int, inputs: object) -> Matrix:
    """What any head of a layer reads."""
    masks = [
        pattern.mask(n, head=head, heads=heads, layer=layer, layers=layers, inputs=inputs)  # type: ignore[arg-type]
        for head in range(heads)
    ]
    return np.logical_or.reduce(masks)


def distances(reads: Matrix) -> Numbers:
    """`[target, source]`: the length of a shortest route, infinite if there is none."""
    graph = nx.from_numpy_array(reads.T & ~np.eye(len(reads), dtype=bool), create_using=nx.DiGraph)
    found = np.full(reads.shape, np.inf)
    for source, lengths in nx.all_pairs_shortest_path_length(graph):
        for target, length in lengths.items():
            found[target, source] = length
    return found


def fewest(layers: list[Matrix]) -> tuple[Numbers, list[Matrix]]:
    """The fewest reads on a route through layers, and who is connected after each of them."""
    size = len(layers[0])
    found = np.where(np.eye(size, dtype=bool), 0, np.inf)
    connected = []
    for reads in layers:
        longer = found.copy()
        for i in range(size):
            if reads[i].any():
                longer[i] = np.minimum(found[i], 1 + found[reads[i]].min(0))
        found = longer
        connected.append(np.isfinite(found))
    return found, connected


def other_pairs(size: int) -> Matrix:
    return ~np.eye(size, dtype=bool)


def earlier_pairs(size: int) -> Matrix:
    return np.tri(size, size, -1, dtype=bool)


def meant_pairs(layers: list[Matrix]) -> Matrix:
    """The pairs that are meant to meet, by definition: earlier ones, or all, or what is read ahead.

    The last where tokens can never learn of more than what lies before them and what they read
    ahead, and where something is read backwards that may not be read forwards.
    """
    reads = np.logical_or.reduce(layers)
    size = len(reads)
    ahead = np.triu(reads, 1)
    known = ahead | np.tri(size, dtype=bool)
    grown = (known.astype(np.int64) @ known.astype(np.int64)) > 0
    if not ahead.any():
        return earlier_pairs(size)
    if (grown <= known).all() and (reads & ~known.T).any():
        return known & other_pairs(size)
    return other_pairs(size)


def live_keys(reads: Matrix) -> int:
    """The most keys that are live at once, by definition."""
    size = len(reads)
    return max(
        sum(bool(reads[t:, j].any()) for j in range(t + 1)) for t in range(size)
    )  # fmt: skip


def num_tiles(reads: Matrix, size: int) -> int:
    """The tiles that hold a pair."""
    length = -(-len(reads) // size) * size
    padded = np.zeros((length, length), dtype=bool)
    padded[: len(reads), : len(reads)] = reads
    tiles = padded.reshape(length // size, size, length // size, size)
    return int(tiles.any((1, 3)).sum())


def parse(body: str, **params: object) -> Pattern:
    """A pattern of a body alone."""
    return attnloom.parse(f"pattern p {{\n{body}\n}}", **params)
