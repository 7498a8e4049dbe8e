"""Where it is narrow: what parts two ends, and how many states can carry far information."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.figures import Method, Pair
from attnloom.compiler.analysis.flow import MOST_EDGES, num_edges, num_links, state_flow, token_flow
from attnloom.compiler.analysis.hubs import hubs
from attnloom.compiler.analysis.intended import Intended
from attnloom.compiler.analysis.lanes import Ends, Lanes, Runs
from attnloom.compiler.analysis.profile import Profile, profile
from attnloom.compiler.analysis.routes import route
from attnloom.compiler.analysis.spectrum import spectral_gap
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.runs import Ints

_FAR = 8
"""Far ends are the first and the last one in so many tokens."""

_MOST_HUBS = 1024
_MOST_EDGES = 1_000_000
_MOST_DOMINATED = 4096
"""Positions up to which the tokens on all routes are worked out."""


@dataclass(frozen=True)
class Cut:
    """The fewest other tokens that part two ends when they are taken out of all layers.

    Between `at_least` and `at_most`, which is `None` where nothing is known; both are `None` when
    the targets read the sources directly, so that nothing parts them. `tokens` are such tokens.
    """

    ends: Ends
    at_least: int | None
    at_most: int | None
    tokens: tuple[int, ...]
    method: Method

    @property
    def is_direct(self) -> bool:
        return self.at_least is None


@dataclass(frozen=True)
class Capacity:
    """How many routes through so many layers share no state, between two ends."""

    ends: Ends
    layers: int
    at_least: int
    at_most: int
    method: Method


@dataclass(frozen=True)
class Narrow:
    """The bottlenecks of a stack.

    `squeeze` is the number of sources beyond the direct reads of a token for each state that can
    carry them. `single_points` are the tokens on every route of the pair, `None` if not known.
    """

    token_cut: Cut | None
    capacity: Capacity | None
    squeeze: float | None
    profile: Profile | None
    pair: Pair | None
    single_points: tuple[int, ...] | None
    spectral_gap: float | None


def token_cut(stack: Stack, intended: Intended, ends: Ends) -> Cut | None:
    """The token cut between two ends of one kind of layer, repeated; `None` for other stacks.

    Raises:
        TooLarge: the rows are too many to look at.
    """
    if not stack.is_uniform:
        return None
    named = hubs(stack).positions(_MOST_HUBS + 1)
    lanes = Lanes.between(stack, ends, named, is_causal=intended.is_causal)
    if lanes is not None and lanes.is_direct:
        return Cut(ends, None, None, (), Method("zones"))
    if lanes is not None and lanes.at_least == lanes.at_most:
        return Cut(ends, lanes.at_least, lanes.at_most, lanes.cut, Method("lanes"))
    if num_links(stack.kinds[0]) <= MOST_EDGES:
        found = token_flow(stack.kinds[0].grain, *_positions(stack, ends))
        cut = tuple(one + stack.start for one in found.cut or ())
        return Cut(ends, found.routes, found.routes, cut, Method("flow"))
    if _touches(stack, ends):
        return Cut(ends, None, None, (), Method("rows"))
    at_least, at_most = 0, _neighbours(stack, ends)
    if lanes is not None:
        at_least = lanes.at_least
        at_most = min(at_most, lanes.at_most if lanes.at_most is not None else at_most)
    return Cut(ends, at_least, at_most, (), Method("bounds", at_least == at_most))


def capacity(stack: Stack, intended: Intended, ends: Ends) -> Capacity | None:
    """The state capacity between two ends; `None` where it is not known.

    Raises:
        TooLarge: the rows are too many to look at.
    """
    named = hubs(stack).positions(_MOST_HUBS + 1)
    lanes = Lanes.between(stack, ends, named, is_causal=intended.is_causal)
    bounds = None if lanes is None else lanes.capacity(stack.layers)
    if bounds is not None and bounds[0] == bounds[1]:
        return Capacity(ends, stack.layers, *bounds, Method("lanes"))
    if num_edges(stack) <= MOST_EDGES:
        value = state_flow(stack, *_positions(stack, ends))
        return Capacity(ends, stack.layers, value, value, Method("flow"))
    if bounds is not None:
        return Capacity(ends, stack.layers, *bounds, Method("lanes", False))
    return None


def far_ends(stack: Stack) -> Ends | None:
    """The first and the last of the tokens, hubs left out; `None` if there are too few."""
    size = stack.tokens // _FAR
    if not size:
        return None
    named = hubs(stack).positions(_MOST_HUBS + 1)
    sources = without(((0, size),), named)
    targets = without(((stack.tokens - size, stack.tokens),), named)
    return Ends(sources, targets) if sources and targets else None


def without(runs: Runs, taken: Iterable[int]) -> Runs:
    """Ranges without some positions.

    >>> without(((0, 5),), [0, 3])
    ((1, 3), (4, 5))
    """
    found = []
    for start, stop in runs:
        for position in sorted(one for one in taken if start <= one < stop):
            found.append((start, position))
            start = position + 1
        found.append((start, stop))
    return tuple((start, stop) for start, stop in found if start < stop)


def narrow(
    stack: Stack, intended: Intended, pair: Pair | None, ends: Ends | None, median: int | None
) -> Narrow:
    """The bottlenecks between the ends that were asked for, or else between far ones.

    Args:
        stack: the layers.
        intended: the intended pairs.
        pair: a pair that is far apart; its tokens are what a token cut parts by default.
        ends: sets of tokens that were asked for.
        median: how many keys a token reads; half of the tokens read no more.

    Raises:
        TooLarge: the rows are too many to look at.
    """
    between = ends
    if between is None and pair is not None:
        source, target = ((one, one + 1) for one in (pair.source, pair.target))
        between = Ends((source,), (target,))
    cut = token_cut(stack, intended, between) if between is not None else None
    far = ends or far_ends(stack)
    carried = capacity(stack, intended, far) if stack.is_counted and far is not None else None
    squeeze = None
    if carried is not None and carried.at_least and median is not None:
        squeeze = max(0, stack.length - median) / carried.at_least
    points = None
    if pair is not None and stack.is_uniform:
        points = single_points(stack, pair, cut if ends is None else None)
    gap = None
    if stack.is_uniform and not intended.is_causal and not intended.reads_ahead:
        gap = spectral_gap(stack.kinds[0])
    return Narrow(cut, carried, squeeze, profile(stack, hubs(stack)), pair, points, gap)


def single_points(stack: Stack, pair: Pair, cut: Cut | None) -> tuple[int, ...] | None:
    """The tokens on every route of a pair; none if it is parted only by several at once."""
    if cut is not None and (cut.is_direct or (cut.at_least or 0) > 1):
        return ()
    if stack.length > _MOST_DOMINATED or num_edges(stack) > _MOST_EDGES * stack.layers:
        return None
    import networkx as nx

    if route(stack, pair) is None:
        return None
    table = stack.kinds[0].tokens.table
    readers, keys = table.pairs()
    graph = nx.DiGraph()
    graph.add_edges_from(zip(keys.tolist(), readers.tolist(), strict=True))
    source, target = pair.source - stack.start, pair.target - stack.start
    above = nx.immediate_dominators(graph, source)
    found = []
    while (target := above.get(target, source)) != source:
        found.append(target + stack.start)
    return tuple(reversed(found))


def _positions(stack: Stack, ends: Ends) -> tuple[Ints, Ints]:
    """Both ends one by one, counted from 0."""
    first, second = (
        np.concatenate([np.arange(start, stop, dtype=np.int64) for start, stop in runs])
        for runs in (ends.sources, ends.targets)
    )
    return first - stack.start, second - stack.start


def _touches(stack: Stack, ends: Ends) -> bool:
    """Whether a target reads a source directly."""
    region = stack.kinds[0].region
    sources, targets = _positions(stack, ends)
    inside = np.zeros(stack.length + 1, dtype=np.int64)
    inside[sources + 1] = 1
    before = np.cumsum(inside)
    found = region.runs(targets + stack.start)
    starts, stops = found.starts - stack.start, found.stops - stack.start
    return bool((before[stops] > before[starts]).any())


def _neighbours(stack: Stack, ends: Ends) -> int:
    """The fewer of those who read the sources and those that the targets read."""
    region = stack.kinds[0].region
    sources, targets = _positions(stack, ends)
    sides = (region.transposed().runs(sources + stack.start), region.runs(targets + stack.start))
    counts = []
    for own, found in zip((sources, targets), sides, strict=True):
        change = np.zeros(stack.length + 1, dtype=np.int64)
        np.add.at(change, found.starts - stack.start, 1)
        np.subtract.at(change, found.stops - stack.start, 1)
        cover = np.cumsum(change)[:-1] > 0
        cover[own] = False
        counts.append(int(cover.sum()))
    return min(counts)


__all__: Sequence[str] = [
    "Capacity", "Cut", "Narrow", "capacity", "far_ends", "narrow", "single_points", "token_cut",
    "without",
]  # fmt: skip
