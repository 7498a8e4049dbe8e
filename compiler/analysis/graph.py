"""Patterns as networkx graphs: of tokens, of blocks of them, or of tokens layer by layer.

An edge `j -> i` says that `i` reads `j`: the way information flows, so that `nx.descendants(g, j)`
are those who can learn about `j`. A token keeps its own state, which is no edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from attnloom.compiler.analysis.hubs import hubs
from attnloom.compiler.analysis.stack import Layer, Stack
from attnloom.compiler.analysis.tiles import tile_pairs
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.regions.base import Bools
from attnloom.compiler.runs import Ints

if TYPE_CHECKING:
    from networkx import DiGraph as DiGraph

MOST_EDGES = 1 << 22
"""Edges of one graph."""


def token_graph(stack: Stack, layer: int = 0) -> DiGraph:
    """The graph of one layer; nodes are numbers of tokens, `m0`, `m1` and so on for memory.

    Nodes have `kind` (`token`, `memory` or `global`), edges `rules` (the statements that make them)
    and `heads` (how many heads read over them).
    """
    import networkx as nx

    found = nx.DiGraph(pattern=stack.name, tokens=stack.tokens, memory=stack.memory, layer=layer)
    found.add_nodes_from(_nodes(stack))
    found.add_edges_from(_edges(stack, stack.layer(layer)))
    return found


def layered_graph(stack: Stack) -> DiGraph:
    """The graph of all layers: node `(token, k)` is a token after `k` layers, 0 the input.

    Edges from one layer to the next have `rules` as in `token_graph`; that of a token to itself,
    which it always has, has `kept` set.
    """
    import networkx as nx

    found = nx.DiGraph(pattern=stack.name, tokens=stack.tokens, memory=stack.memory)
    nodes = list(_nodes(stack))
    for layer in range(stack.layers + 1):
        found.add_nodes_from(((name, layer), data) for name, data in nodes)
    for layer, kind in enumerate(stack.order):
        found.add_edges_from(
            ((name, layer), (name, layer + 1), {"kept": True}) for name, _ in nodes
        )
        found.add_edges_from(
            ((source, layer), (target, layer + 1), {**data, "kept": False})
            for source, target, data in _edges(stack, stack.kinds[kind])
        )
    return found


def block_graph(stack: Stack, size: int, layer: int = 0) -> DiGraph:
    """The graph of blocks of `size` positions: an edge where any token reads any; at any length.

    A block that reads itself has a loop. Distances in this graph are lower bounds of those between
    tokens of different blocks, and exact if the pattern is made of such blocks.
    """
    import networkx as nx

    count = -(-stack.length // size)
    found = nx.DiGraph(pattern=stack.name, tokens=stack.tokens, memory=stack.memory, block=size)
    for block in range(count):
        start = block * size + stack.start
        found.add_node(block, start=start, stop=min(start + size, stack.stop))
    queries, keys = tile_pairs(stack.layer(layer), size, MOST_EDGES)
    found.add_edges_from(zip(keys.tolist(), queries.tolist(), strict=True))
    return found


def _nodes(stack: Stack) -> Iterator[tuple[int | str, dict[str, str]]]:
    named = hubs(stack)
    is_global = named.tokens.contains(np.arange(stack.tokens))
    for position in range(stack.start, 0):
        yield stack.name_of(position), {"kind": "memory"}
    for token, mark in enumerate(is_global.tolist()):
        yield token, {"kind": "global" if mark else "token"}


def _edges(stack: Stack, layer: Layer) -> Iterator[tuple[int | str, int | str, dict[str, object]]]:
    """All reads of a layer but those of itself, with what makes them."""
    table = layer.tokens.table
    total = int((table.stops - table.starts).sum())
    if total > MOST_EDGES:
        raise TooLarge(f"a graph of {total:,} edges, over {MOST_EDGES:,}; blocks are fewer")
    rows, keys = table.pairs()
    apart = rows != keys
    rows, keys = rows[apart] + stack.start, keys[apart] + stack.start
    heads, rules = _reasons(layer, rows, keys)
    names = {position: stack.name_of(position) for position in range(stack.start, 0)}
    for i, j, count, why in zip(rows.tolist(), keys.tolist(), heads.tolist(), rules, strict=True):
        yield names.get(j, j), names.get(i, i), {"rules": why, "heads": count}


def _reasons(layer: Layer, rows: Ints, keys: Ints) -> tuple[Ints, list[tuple[str, ...]]]:
    """For each pair how many heads read over it, and the statements that make it."""
    heads = np.zeros(len(rows), dtype=np.int64)
    marks: dict[str, Bools] = {}
    of_tokens = (rows >= 0) & (keys >= 0)
    for bound, share in zip(layer.bounds, layer.shares, strict=True):
        held = bound.region.contains(rows, keys)
        heads += held * share
        for statement in bound.statements:
            if statement.kind == "memory":
                made = held & ~of_tokens
            elif statement.kind == "add" and statement.relation is not None:
                region = statement.relation.region
                inside = region.contains(np.maximum(rows, 0), np.maximum(keys, 0))
                made = held & of_tokens & inside
            else:
                continue
            marks[statement.text] = marks.get(statement.text, np.zeros_like(held)) | made
    texts = list(marks)
    table = np.stack([marks[text] for text in texts], axis=1) if texts else np.zeros((0, 0))
    known: dict[bytes, tuple[str, ...]] = {}
    rules = []
    for row in table:
        name = row.tobytes()
        if name not in known:
            known[name] = tuple(text for text, made in zip(texts, row, strict=True) if made)
        rules.append(known[name])
    return heads, rules
