"""Least cuts and most disjoint routes, exactly, by maximum flow (Menger); for small graphs.

Every token is two nodes joined by one unit of capacity; a read is an edge that is never narrow. The
flow then counts routes that share no token, and the cut that stops it is the fewest tokens that all
routes pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.grain import Grain
from attnloom.compiler.analysis.stack import Layer, Stack
from attnloom.compiler.regions.base import Bools
from attnloom.compiler.runs import Ints

MOST_EDGES = 4_000_000
"""Reads, over all layers, up to which the flow is worked out."""


@dataclass(frozen=True)
class Flow:
    """The most routes that share no token, and tokens that part the ends when they are taken away.

    Both are `None` when an end reads the other directly: then nothing parts them.
    """

    routes: int | None
    cut: tuple[int, ...] | None


def num_links(layer: Layer) -> int:
    """Reads of one layer, counted between blocks where it is made of whole blocks."""
    if layer.has_zones:
        return layer.zones.count()
    table = layer.grain.table
    return int((table.stops - table.starts).sum())


def num_edges(stack: Stack) -> int:
    """Reads of all layers together, over all heads of each."""
    each = [_num_pairs(kind) for kind in stack.kinds]
    return sum(each[kind] for kind in stack.order)


def _num_pairs(layer: Layer) -> int:
    if layer.has_zones:
        return layer.zones.count()
    grain = layer.grain
    return int((grain.table.row_totals(grain.weights) * grain.weights).sum())


def token_flow(grain: Grain, sources: Ints, targets: Ints) -> Flow:
    """Routes over any number of hops in the graph of one kind of layer; ends count from 0.

    Where whole blocks of tokens read each other, a block is one node with room for its tokens; the
    ends are taken out of their blocks.
    """
    table, size = grain.table, grain.block
    readers, keys = table.pairs()
    apart = (readers != keys) | (size > 1)
    readers, keys = readers[apart], keys[apart]
    from_blocks, to_blocks = np.unique(sources // size), np.unique(targets // size)
    count = table.length
    telling, hearing = np.full(count, -1), np.full(count, -1)
    telling[from_blocks] = count + np.arange(len(from_blocks))
    hearing[to_blocks] = count + len(from_blocks) + np.arange(len(to_blocks))
    if ((telling[keys] >= 0) & (hearing[readers] >= 0)).any():
        return Flow(None, None)
    # Reads of the ends beside those of the rest of their blocks.
    told, heard = telling[keys] >= 0, hearing[readers] >= 0
    edges = [
        (keys, readers),
        (telling[keys[told]], readers[told]),
        (keys[heard], hearing[readers[heard]]),
    ]
    nodes = count + len(from_blocks) + len(to_blocks)
    wide = grain.tokens + 1
    room = np.full(nodes, wide)
    room[:count] = grain.weights
    room[:count] -= np.bincount(sources // size, minlength=count)
    room[:count] -= np.bincount(targets // size, minlength=count)
    # Node 2v is what v hears, node 2v + 1 what v tells.
    every, top = np.arange(nodes), 2 * nodes
    told_nodes, heard_nodes = telling[from_blocks], hearing[to_blocks]
    tails = [2 * every, *(2 * one + 1 for one, _ in edges), np.full(len(told_nodes), top)]
    heads = [2 * every + 1, *(2 * other for _, other in edges), 2 * told_nodes]
    tail = np.concatenate([*tails, 2 * heard_nodes + 1])
    head = np.concatenate([*heads, np.full(len(heard_nodes), top + 1)])
    widths = np.concatenate([room, np.full(len(tail) - nodes, wide)])
    value, reached = _flow(tail, head, widths, top + 2)
    parted = np.flatnonzero(reached[0 : 2 * count : 2] & ~reached[1 : 2 * count : 2])
    ends = np.concatenate([sources, targets])
    cut = (np.arange(b * size, min((b + 1) * size, grain.tokens)) for b in parted.tolist())
    tokens = np.setdiff1d(np.concatenate([ends[:0], *cut]), ends)
    return Flow(value, tuple(tokens.tolist()))


def state_flow(stack: Stack, sources: Ints, targets: Ints) -> int:
    """Routes through the layers of a stack that share no state: no token in the same layer.

    A state is a token after so many layers; it passes on to the next layer by itself too.
    """
    length, layers = stack.length, stack.layers
    size = 2 * length * (layers + 1) + 2

    def entry(tokens: Ints, layer: int) -> Ints:
        return 2 * (layer * length + tokens)

    every = np.arange(length)
    tails, heads = [], []
    for layer in range(layers + 1):
        tails.append(entry(every, layer))
        heads.append(entry(every, layer) + 1)
    pairs = [kind.tokens.table.pairs() for kind in stack.kinds]
    for layer, kind in enumerate(stack.order):
        readers, keys = pairs[kind]
        tails += [entry(keys, layer) + 1, entry(every, layer) + 1]
        heads += [entry(readers, layer + 1), entry(every, layer + 1)]
    tails += [np.full(len(sources), size - 2), entry(targets, layers) + 1]
    heads += [entry(sources, 0), np.full(len(targets), size - 1)]
    tail, head = np.concatenate(tails), np.concatenate(heads)
    # One unit through every state, and so along every edge.
    return _flow(tail, head, np.ones(len(tail), dtype=np.int64), size)[0]


def _flow(tails: Ints, heads: Ints, room: Ints, size: int) -> tuple[int, Bools]:
    """The maximum flow between the last two nodes, and what is still reached from the first."""
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    room = room.astype(np.int32)
    graph = csr_array(coo_array((room, (tails, heads)), shape=(size, size)))
    found = maximum_flow(graph, size - 2, size - 1)
    left = csr_array(graph - found.flow)
    left.eliminate_zeros()
    order = breadth_first_order(left, size - 2, return_predecessors=False)
    reached = np.zeros(size, dtype=np.bool_)
    reached[order] = True
    return int(found.flow_value), reached
