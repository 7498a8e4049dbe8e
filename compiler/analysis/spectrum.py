"""The spectral gap: how fast averages over what is read even out, for symmetric patterns.

It is the second smallest eigenvalue of the Laplacian of the graph in which two tokens are joined
when they read each other: 0 when the graph is in pieces, `n` when all are joined, and small when
few links hold large parts together (Fiedler 1973).
"""

from __future__ import annotations

import numpy as np

from attnloom.compiler.analysis.stack import Layer

MOST_POSITIONS = 512
"""Positions up to which all eigenvalues are worked out."""


def spectral_gap(layer: Layer) -> float | None:
    """The gap of one kind of layer; `None` if it is not symmetric, or too long.

    >>> import attnloom
    >>> stack = attnloom.load("bert").analyze(64).stack
    >>> round(spectral_gap(stack.kinds[0]), 6)
    64.0
    """
    size = layer.stop - layer.start
    if not 1 < size <= MOST_POSITIONS:
        return None
    from scipy.linalg import eigvalsh

    positions = np.arange(layer.start, layer.stop, dtype=np.int64)
    reads = layer.region.contains(positions[:, None], positions)
    np.fill_diagonal(reads, False)
    if (reads != reads.T).any():
        return None
    laplacian = np.diag(reads.sum(1)) - reads.astype(np.float64)
    _, gap = eigvalsh(laplacian, subset_by_index=[0, 1])
    return max(0.0, float(gap))
