"""Traffic: what share of all relayed information each token carries, over shortest routes.

Every intended pair that is at least two hops apart sends one unit from its source to its target,
spread evenly over its shortest routes. The *load* of a token is the share of these units that pass
through it, itself as an end not counted: its betweenness, by the number of relayed pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.brandes import Floats, loads_of_all, routes_to
from attnloom.compiler.analysis.figures import CONFIDENCE, Hops, Method, Note
from attnloom.compiler.analysis.grain import Grain
from attnloom.compiler.analysis.intended import Intended
from attnloom.compiler.analysis.sampling import Estimate, draw
from attnloom.compiler.analysis.stack import Layer
from attnloom.compiler.analysis.two_hops import two_hop_routes
from attnloom.compiler.analysis.work import LayerWork
from attnloom.compiler.runs import Ints, intersection
from attnloom.compiler.zones import TooComplex, Zones

MOST_LISTED = 10
"""Tokens whose loads are listed."""

_MOST_DENSE = 1024
"""Positions up to which all pairs are followed."""

_DENSE_WORK = 1 << 31
"""Multiplications that this may take."""

_PAIRS = 4096
"""Pairs that are sampled where all are within two hops."""

_RANGES = 1 << 19
"""Ranges of keys that they may have together."""

_READERS = 8
"""Readers from which routes are followed to all sources otherwise."""

_READER_WORK = 50_000_000
_LEVEL_WORK = 4096
_MOST_LEVELS = 100
"""Beyond, numbers of routes leave the range of floating-point numbers."""

_SMALL = 0.01
"""A bound on all loads below which they are not looked at one by one."""


@dataclass(frozen=True)
class Load:
    """The share of relayed traffic that a token carries, within `low..high`."""

    token: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Traffic:
    """The loads of the busiest tokens, the busiest first.

    `at_most` bounds the load of every token, those that are not listed too. `rest` is what all
    other tokens carry together, where nothing is relayed more than once.
    `fewest_routes` is the least number of two-hop routes of pairs two hops apart, and
    `fewest_share` the share of intended pairs that have no more; `None` where not known exactly.
    """

    loads: tuple[Load, ...]
    at_most: float | None
    rest: float | None
    fewest_routes: int | None
    fewest_share: float | None
    method: Method


def traffic(
    layer: Layer, intended: Intended, hops: Hops, work: LayerWork, candidates: list[int], note: Note
) -> Traffic:
    """The traffic of one kind of layer; `candidates` are tokens that may be the busiest.

    Raises:
        TooLarge: the rows are too many to look at.
    """
    if hops.worst is None or hops.worst < 2:
        return Traffic((), 0.0, None, None, None, Method("reach"))
    note("following the traffic through hubs")
    is_short = hops.worst == 2 and hops.worst_at_most == 2
    if is_short and layer.has_zones:
        try:
            return _in_closed_form(layer.zones, intended, candidates)
        except TooComplex:
            pass
    size = layer.stop - layer.start
    each = work.reads / (work.pairs or 1) * size  # a product costs this for each pair, if sparse
    if size <= _MOST_DENSE and size**2 * each * hops.worst <= _DENSE_WORK:
        return _of_all(layer.tokens, intended)
    if not is_short:
        return _of_readers(layer.tokens, intended, hops.worst)
    bound = _bound(hops, work)
    if bound is not None and bound < _SMALL:
        return Traffic((), bound, None, None, None, Method("degrees"))
    return _of_pairs(layer, intended)


def _bound(hops: Hops, work: LayerWork) -> float | None:
    """What no token can exceed where all are within two hops: all it reads, for all who read it."""
    relayed = hops.steps[-1].pairs
    if relayed is None or work.per_query is None or work.per_key is None:
        return None
    return work.per_query.most * work.per_key.most / relayed


# --- all pairs in closed form --------------------------------------------------------------------


def _in_closed_form(reads: Zones, intended: Intended, candidates: list[int]) -> Traffic:
    start, stop = reads.start, reads.stop
    others = reads - Zones.zone(start, stop, d=(0, 0))
    routes = two_hop_routes(reads, ((others @ others) & intended.zones) - reads)
    listed = [*candidates[:MOST_LISTED], *_most_read(reads)]
    loads = _sorted(
        Load(token, share, share, share)
        for token in dict.fromkeys(listed)
        if (share := routes.share_through(token, reads)) > 0
    )[:MOST_LISTED]
    rest = max(0.0, 1 - sum(load.share for load in loads))
    most = max(rest, *(load.share for load in loads)) if loads else rest
    share = routes.num_fewest / intended.total
    return Traffic(loads, most, rest, routes.fewest, share, Method("zones"))


def _most_read(reads: Zones) -> list[int]:
    """Tokens that read most, and that are read most."""
    return [reads.max_row_count()[1], reads.max_column_count()[1]]


def _sorted(loads: Iterable[Load]) -> tuple[Load, ...]:
    return tuple(sorted(loads, key=lambda one: (-one.share, one.token)))


# --- all pairs, one by one -----------------------------------------------------------------------


def _of_all(grain: Grain, intended: Intended) -> Traffic:
    positions = np.arange(grain.start, grain.stop, dtype=np.int64)
    reads = grain.region.contains(positions[:, None], positions)
    wanted = intended.region.contains(positions[:, None], positions)
    loads, routes = loads_of_all(reads, wanted)
    apart = routes > 0
    fewest = int(routes[apart].min()) if apart.any() else None
    share = None if fewest is None else float((routes == fewest).sum()) / intended.total
    listed, rest = _top(loads, grain.start)
    return Traffic(listed, float(loads.max()), rest, fewest, share, Method("all pairs"))


def _top(loads: Floats, start: int) -> tuple[tuple[Load, ...], float | None]:
    order = np.argsort(-loads, kind="stable")[:MOST_LISTED]
    found = tuple(Load(int(at) + start, *[float(loads[at])] * 3) for at in order if loads[at] > 0)
    rest = float(loads.sum()) - sum(load.share for load in found)
    return found, max(0.0, rest)


# --- samples -------------------------------------------------------------------------------------


def _of_pairs(layer: Layer, intended: Intended) -> Traffic:
    """Routes drawn evenly for pairs that are drawn evenly, where all are within two hops.

    How often a token is on such a route estimates its load, for all tokens at once within a margin
    that depends on the longest route (Riondato & Kornaropoulos 2014, arXiv:1304.7224).
    """
    region = layer.region
    readers = draw_readers(intended, 4 * _PAIRS)
    wanted = intended.region.runs(readers)
    generator = np.random.default_rng(len(readers))
    places = generator.integers(0, np.maximum(wanted.lengths(), 1))
    sources = wanted.pick(places[:, None])[:, 0]
    apart = ~region.contains(readers, sources) & (wanted.lengths() > 0)
    readers, sources = readers[apart], sources[apart]
    probe = region.runs(readers[:64])
    each = max(1, len(probe.starts) // max(1, len(readers[:64])))
    count = min(_PAIRS, max(64, _RANGES // each), len(readers))
    readers, sources = readers[:count], sources[:count]
    middle = intersection([region.runs(readers), region.transposed().runs(sources)])
    sizes = middle.lengths()
    count = int(np.count_nonzero(sizes))  # the other pairs are not connected
    if not count:
        return Traffic((), None, None, None, None, Method("pairs", False, 0, "no pair is relayed"))
    chosen = middle.pick(generator.integers(0, np.maximum(sizes, 1))[:, None])[:, 0]
    tokens, times = np.unique(chosen[sizes > 0], return_counts=True)
    margin = math.sqrt(0.5 / count * (1 + math.log(1 / (1 - CONFIDENCE))))
    loads = _sorted(
        Load(int(token), share, max(0.0, share - margin), min(1.0, share + margin))
        for token, share in zip(tokens.tolist(), (times / count).tolist(), strict=True)
    )[:MOST_LISTED]
    method = Method("pairs", False, count, f"within {margin:.3f} for all tokens at once")
    rest = max(0.0, 1 - sum(load.share for load in loads))
    return Traffic(loads, None, rest, None, None, method)


def draw_readers(intended: Intended, count: int) -> Ints:
    """Readers drawn in proportion to their intended pairs."""
    positions = np.arange(intended.start, intended.stop, dtype=np.int64)
    return draw(intended.per_query(positions), count) + intended.start


def _of_readers(grain: Grain, intended: Intended, worst: int) -> Traffic:
    """The loads of all tokens from some readers, each followed to all of its sources."""
    count = 0
    if worst <= _MOST_LEVELS:
        count = min(_READERS, _READER_WORK // (grain.table.num_ranges + worst * _LEVEL_WORK))
    if count < 2:
        why = f"routes of {worst:,} hops over {grain.length:,} tokens are not followed"
        return Traffic((), None, None, None, None, Method("not followed", False, 0, why))
    readers = draw_readers(intended, count)
    found = [routes_to(grain, intended, int(reader)) for reader in readers]
    loads = np.stack([passed for passed, _ in found])
    relayed = np.array([pairs for _, pairs in found], dtype=np.float64)
    share = loads.sum(0) / max(relayed.sum(), 1.0)
    order = np.argsort(-share, kind="stable")[:MOST_LISTED]
    each = loads[:, order] / np.maximum(relayed, 1.0)[:, None]
    guesses = [Estimate.of(column, 0.0, 1.0) for column in each.T]
    listed = tuple(
        Load(int(at) + grain.start, float(share[at]), guess.low, guess.high)
        for at, guess in zip(order, guesses, strict=True)
        if share[at] > 0
    )
    return Traffic(listed, None, None, None, None, Method("routes", False, count))
