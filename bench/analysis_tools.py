"""The tools that `bench.analysis` asks: how each makes its graph, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import attnloom

OURS = "attnloom"

Answer = tuple[dict[str, Any], bool]
"""Pairs by hops, and whether that is exact."""

Edges = tuple[NDArray[np.int32], NDArray[np.int32]]


def edges(text: str, length: int) -> Edges:
    """Who reads whom, itself left out: queries and keys, in the order of the queries."""
    table = attnloom.parse(text).analyze(length).stack.kinds[0].tokens.table
    queries, keys = (part.astype(np.int32) for part in table.pairs())
    apart = queries != keys
    return queries[apart], keys[apart]


def peak_mib() -> float:
    """The most memory that this process has held; not what its parent held when it was forked."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024, 1)


def _counted(hops: Iterable[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in hops:
        if one > 0:
            found[str(one)] = found.get(str(one), 0) + 1
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _of_array(hops: NDArray[Any]) -> dict[str, int]:
    finite = hops[np.isfinite(hops) & (hops > 0)].astype(np.int64)
    values, counts = np.unique(finite, return_counts=True)
    return {str(hop): int(count) for hop, count in zip(values, counts, strict=True)}


# --- attnloom ------------------------------------------------------------------------------------


def _ours(text: str, length: int) -> Any:
    return attnloom.parse(text).analyze(length)


def _ask_ours(report: Any, question: str) -> Answer:
    if question == "all pairs":
        hops = report.hops
        found = {step.name: step.pairs or round(step.share * hops.total) for step in hops.steps}
        return found, hops.method.is_exact
    from attnloom.compiler.analysis import walk

    stack = report.stack
    region, last = stack.kinds[0].region, stack.stop - 1
    levels = walk.levels(region, last, stack.start, stack.stop)
    sizes = [level.size for level in levels]
    return {str(hop): size for hop, size in enumerate(sizes) if hop}, True


# --- networkx ------------------------------------------------------------------------------------


def _networkx(text: str, length: int) -> Any:
    import networkx

    queries, keys = edges(text, length)
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(length))
    graph.add_edges_from(zip(queries.tolist(), keys.tolist(), strict=True))  # to what it reads
    return graph


def _ask_networkx(graph: Any, question: str) -> Answer:
    import networkx

    if question == "one reader":
        found = networkx.single_source_shortest_path_length(graph, len(graph) - 1)
        return _counted(found.values()), True
    every = networkx.all_pairs_shortest_path_length(graph)
    return _counted(hops for _, lengths in every for hops in lengths.values()), True


# --- SciPy ---------------------------------------------------------------------------------------


def _scipy(text: str, length: int) -> Any:
    from scipy.sparse import csr_array

    queries, keys = edges(text, length)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(queries, minlength=length))])
    ones = np.ones(len(keys), dtype=np.float64)
    return csr_array((ones, keys, offsets.astype(np.int32)), shape=(length, length))


def _ask_scipy(graph: Any, question: str) -> Answer:
    from scipy.sparse.csgraph import dijkstra

    size = graph.shape[0]
    if question == "one reader":
        return _of_array(dijkstra(graph, unweighted=True, indices=size - 1)), True
    total: dict[str, int] = {}
    for first in range(0, size, 64):  # not all rows at once: the distances alone would be n**2
        part = dijkstra(graph, unweighted=True, indices=range(first, min(first + 64, size)))
        for hop, count in _of_array(part).items():
            total[hop] = total.get(hop, 0) + count
    return dict(sorted(total.items(), key=lambda item: int(item[0]))), True


# --- rustworkx -----------------------------------------------------------------------------------


def _rustworkx(text: str, length: int) -> Any:
    import rustworkx

    queries, keys = edges(text, length)
    graph = rustworkx.PyDiGraph(multigraph=False)
    graph.add_nodes_from(range(length))
    graph.add_edges_from_no_data(list(zip(queries.tolist(), keys.tolist(), strict=True)))
    return graph


def _ask_rustworkx(graph: Any, question: str) -> Answer:
    import rustworkx

    if question == "one reader":
        source = graph.num_nodes() - 1
        found = rustworkx.digraph_dijkstra_shortest_path_lengths(graph, source, lambda _: 1.0)
        return _counted(int(hops) for hops in found.values()), True
    return _of_array(rustworkx.digraph_distance_matrix(graph, null_value=np.inf)), True


TOOLS: dict[str, tuple[Callable[[str, int], Any], Callable[[Any, str], Answer]]] = {
    OURS: (_ours, _ask_ours),
    "scipy": (_scipy, _ask_scipy),
    "rustworkx": (_rustworkx, _ask_rustworkx),
    "networkx": (_networkx, _ask_networkx),
}
"""By the name of what is imported: how the graph is made, and how it is asked."""
