"""`attnloom.graph`: a pattern as a networkx graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attnloom.compiler.analysis import graph as graphs
from attnloom.pattern import Pattern

if TYPE_CHECKING:
    from attnloom.compiler.analysis.graph import DiGraph


def graph(
    pattern: Pattern,
    n: int,
    *,
    heads: int = 1,
    layer: int = 0,
    layers: int | None = None,
    block: int | None = None,
    layered: bool = False,
    inputs: Mapping[str, Any] | None = None,
    element: int = 0,
) -> DiGraph:
    """A pattern as a graph: an edge `j -> i` where `i` reads `j`, the way information flows.

    Nodes are token numbers, `"m0"`, `"m1"` and so on for memory tokens, with the attribute `kind`:
    `"token"`, `"global"` or `"memory"`. Edges have `rules`, the statements of the pattern that make
    them, and `heads`, how many heads read over them. A token keeps its own state, which is no edge.

    Args:
        pattern: the pattern.
        n: tokens, memory tokens not counted.
        heads: how many heads; an edge is what any of them reads.
        layer: which layer, from 0.
        layers: how many layers there are; `layer + 1` when not given.
        block: when given, nodes are blocks of so many positions, and an edge says that some token
            of one reads some token of the other; any `n` will do.
        layered: nodes are `(token, k)`, a token after `k` of all layers; an edge that keeps a
            token's own state has the attribute `kept`.
        inputs: as in `Pattern.bind`.
        element: which batch element of the inputs.

    Raises:
        TypeError, ValueError: an argument is wrong, named in the message.
        PatternError: the pattern has no meaning here, or the graph would be too large.

    >>> import attnloom
    >>> edges = attnloom.graph(attnloom.load("longformer", reach=1), 5).edges(data="rules")
    >>> [edge for edge in edges if edge[0] == 3]  # who reads token 3
    [(3, 0, ('global(cls)',)), (3, 2, ('window(each_side=reach)',)), \
(3, 4, ('window(each_side=reach)',))]
    """
    if not isinstance(pattern, Pattern):
        raise TypeError(f"pattern must be a Pattern, got {type(pattern).__name__}")
    count = layer + 1 if layers is None else layers
    report = pattern.analyze(n, heads=heads, layers=count, inputs=inputs, element=element)
    if not 0 <= layer < count:
        raise ValueError(f"layer must be in 0..{count}, got {layer}")
    if block is not None and (layered or block < 1):
        raise ValueError("block must be at least 1, and not go with layered")
    with report.limits():
        if layered:
            return graphs.layered_graph(report.stack)
        if block is not None:
            return graphs.block_graph(report.stack, block, layer)
        return graphs.token_graph(report.stack, layer)
