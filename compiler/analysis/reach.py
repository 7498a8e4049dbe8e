"""Reach: how far apart tokens are, and what is connected after each layer, by the best engine.

In this order: zones, exact at any length; a closed part of the pattern that already connects all
within two reads, exact together with the number of reads; a search from every position, exact; a
search from a sample of positions, with intervals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import islice

import numpy as np

from attnloom.compiler.analysis import by_zones, search, walk
from attnloom.compiler.analysis.by_zones import Bound
from attnloom.compiler.analysis.figures import Coverage, Hops, Method, Note, Pair, Step
from attnloom.compiler.analysis.intended import Intended
from attnloom.compiler.analysis.sampling import Estimate, draw
from attnloom.compiler.analysis.search import Found, Space, TooDeep
from attnloom.compiler.analysis.spread import Spread
from attnloom.compiler.analysis.stack import Stack, checked, leaves
from attnloom.compiler.by_rows import by_rows
from attnloom.compiler.regions import Band, Bands, Condition, Links, Region, minus
from attnloom.compiler.regions.base import Either
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import TooComplex, Zones

SAMPLES = 256
"""Positions that are searched from when not all are."""

_EXACT_WORK = 200_000_000
"""Words looked at up to which a search from all positions is thought quick enough."""

_DEPTH = 8
"""Layers that a search is thought to need."""

_WALKS = 8
"""Readers from which single walks are made where there are very many hops."""

_LISTED = 64
"""Layers whose coverage is listed when no number of layers was asked for."""


@dataclass(frozen=True, eq=False)
class Reach:
    """Hops and coverage of a stack, worked out when they are asked for."""

    stack: Stack
    intended: Intended
    note: Note
    samples: int = SAMPLES

    @cached_property
    def hops(self) -> Hops:
        """How far intended pairs are apart."""
        if isinstance(self._closed, Hops):
            return self._closed
        if not self.stack.is_uniform:
            return self._searched_stack[0]
        return self._by_reads or self._searched[0]

    @cached_property
    def coverage(self) -> Coverage:
        """What is connected after each layer."""
        hops = self.hops
        if not hops.total:
            return Coverage.nothing(self.stack.layers, hops.method)
        if hops is self._closed:
            order = self.stack.order
            if not self.stack.is_counted:
                order = order * min(hops.worst or 1, _LISTED)
            return by_zones.coverage(self.stack, order, self.intended, self.note)
        if not self.stack.is_uniform:
            return self._searched_stack[1]
        if hops is self._by_reads:
            return self._layers(hops, ())
        return self._searched[1]

    # --- zones ---

    @cached_property
    def _closed(self) -> Hops | str:
        """The hops in closed form, or why there is none."""
        if not self.intended.total:
            return Hops.nothing(by_zones.METHOD)
        try:
            if self.stack.is_uniform:
                return by_zones.hops(self.stack.kinds[0].zones, self.intended, self.note)
            return by_zones.hops_in_stack(self.stack, self.intended, self.note)
        except TooComplex as error:
            return str(error)

    @cached_property
    def _bound(self) -> Bound | None:
        """What the closed part of the only kind of layer makes certain."""
        layer = self.stack.kinds[0]
        closed = closed_part(layer.region, layer.start, layer.stop)
        try:
            return by_zones.bound(closed, self.intended) if closed else None
        except TooComplex:
            return None

    # --- one kind of layer ---

    @cached_property
    def space(self) -> Space:
        """What is searched: blocks if the one kind of layer is made of them, else tokens."""
        intended, kinds = self.intended, self.stack.kinds
        grain = kinds[0].grain
        size = grain.block
        fits = intended.block == size if intended.is_causal else not intended.reads_ahead
        if size == 1 or len(kinds) > 1 or not fits or not intended.holds_all_reads:
            grains = tuple(kind.tokens for kind in kinds)
            return Space(grains, intended.region, not intended.holds_all_reads)
        last = grain.stop - 1
        pairs: Region = Bands.of(Band(0, last, 0, last, d1=0 if intended.is_causal else -last))
        blocks = intended.removed and intended.removed.in_blocks(size)
        if blocks:
            pairs = minus(pairs, blocks.links(0, grain.stop))
        return Space((grain,), pairs, False)

    @cached_property
    def _by_reads(self) -> Hops | None:
        """Where a closed part connects all within two reads, the number of reads settles it."""
        bound, total = self._bound, self.intended.total
        if bound is None or not bound.connects_all or bound.worst > 2:
            return None
        self.note("counting the reads")
        direct = self.space.num_links
        counts = [direct, total - direct]
        steps = [Step.exact(h, h, pairs, total) for h, pairs in enumerate(counts, 1) if pairs]
        mean = (direct + 2 * (total - direct)) / total
        return Hops(
            total=total,
            steps=tuple(steps),
            worst=steps[-1].last,
            worst_at_most=steps[-1].last,
            worst_pair=self._unlinked() if direct < total else self._linked(),
            mean=mean,
            mean_low=mean,
            mean_high=mean,
            unreachable=0,
            unreachable_share=0.0,
            unreachable_pair=None,
            method=Method("zones and reads"),
        )

    def _unlinked(self) -> Pair | None:
        """An intended pair of which neither reads the other directly in the one kind of layer."""
        return self._first(minus(self.space.intended, self.space.grains[0].region))

    def _linked(self) -> Pair | None:
        return self._first(self.space.intended)

    def _first(self, region: Region) -> Pair | None:
        """The tokens of the first pair of a region over the positions of the space."""
        start, stop = self.space.start, self.space.stop
        for rows, found in by_rows(region, start, stop):
            if len(found.starts):
                return self.space.pair(
                    int(rows[found.rows[0]]) - start, int(found.starts[0]) - start
                )
        return None

    @cached_property
    def _searched(self) -> tuple[Hops, Coverage]:
        space = self.space
        seeds = self._seeds(space.grains[0].read_by.num_ranges * _DEPTH)
        is_exact = seeds is None
        try:
            found = joined(
                search.readers(
                    space, np.arange(space.length) if seeds is None else seeds, self.note
                )
            )
        except TooDeep:
            seeds = draw(space.per_reader * space.weights, _WALKS)
            found = joined(map(self.walked, seeds.tolist()))
            is_exact = False
        method = self._method("blocks" if space.block > 1 else "search", is_exact, len(found.seeds))
        hops = self._hops(found, space.per_reader, method)
        return hops, self._layers(hops, self._fields(found, is_exact))

    def _seeds(self, work: int) -> Ints | None:
        """A sample of positions, or `None` for all; `work` is what it takes to search from 64."""
        space = self.space
        if work * -(-space.length // 64) <= _EXACT_WORK or space.length <= self.samples:
            return None
        each = space.per_reader if self.stack.is_uniform else space.per_source
        return draw(each * space.weights, self.samples)

    def walked(self, seed: int) -> Found:
        """A search from a single reader, level by level."""
        space = self.space
        self.note(f"walking from {seed:,}")
        first, counts = seed + space.start, [0]
        last, farthest = None, None
        for level in islice(
            walk.levels(space.grains[0].region, first, space.start, space.stop), 1, None
        ):
            positions = level.positions()
            if space.is_masked:
                reader = np.full_like(positions, first)
                positions = positions[space.intended.contains(reader, positions)]
            counts.append(counts[-1] + len(positions))
            if len(positions):
                last = int(positions[0])
        if last is not None:
            farthest = Pair(source=last, target=first)
        reached = np.array(counts[1:] or [0], dtype=np.int64)[:, None]
        return Found(np.array([seed]), reached, farthest, None)

    # --- stacks ---

    @cached_property
    def _searched_stack(self) -> tuple[Hops, Coverage]:
        space, stack = self.space, self.stack
        ranges = sum(space.grains[kind].table.num_ranges for kind in stack.order)
        seeds = self._seeds(ranges * 2)
        every = np.arange(space.length, dtype=np.int64)
        found = list(
            search.sources(space, stack.order, every if seeds is None else seeds, self.note)
        )
        by_hops = joined(one.by_hops for one in found)
        by_layers = joined(one.by_layers for one in found)
        method = self._method("search", seeds is None, len(by_hops.seeds))
        hops = self._hops(by_hops, space.per_source, method)
        arrival = self._hops(by_layers, space.per_source, method)
        return hops, replace(self._layers(arrival, ()), missing_pair=by_layers.missing)

    # --- from what was found ---

    def _method(self, engine: str, is_exact: bool, samples: int) -> Method:
        why = self._closed if isinstance(self._closed, str) else ""
        return Method(engine, is_exact, 0 if is_exact else samples, why)

    def _hops(self, found: Found, each: Ints, method: Method) -> Hops:
        """Hops from the tokens that each seed has reached, exact or with intervals."""
        seeds, total = found.seeds, self.intended.total
        new = np.diff(found.reached, axis=0, prepend=0)
        levels = np.arange(1, len(new) + 1)
        bound = self._bound if self.stack.is_uniform else None
        ceiling = bound.worst if bound is not None and bound.connects_all else None
        if method.is_exact:
            pairs = [int(one) for one in (new * self.space.weights[seeds]).sum(1)]
            steps = [Step.exact(h, h, one, total) for h, one in enumerate(pairs, 1)]
            connected = sum(pairs)
            mean = sum(h * one for h, one in enumerate(pairs, 1)) / connected if connected else None
            low = high = mean
            unreachable: int | None = total - connected
            unreachable_share = (total - connected) / total
        else:
            shares = new / each[seeds]
            guesses = [Estimate.of(one, 0.0, 1.0) for one in shares]
            steps = [
                Step(h, h, one.value, None, one.low, one.high) for h, one in enumerate(guesses, 1)
            ]
            reached = float(shares.sum(0).mean())
            guess = Estimate.of(levels @ shares, 0.0, ceiling or self.stack.length)
            mean, low, high = (
                (guess.value / reached, guess.low / reached, guess.high / reached)
                if reached
                else (None, None, None)
            )
            unreachable = 0 if ceiling else None
            unreachable_share = max(0.0, 1 - reached)
        steps = [step for step in steps if step.share > 0]
        worst = steps[-1].last if steps else None
        return Hops(
            total=total,
            steps=tuple(steps),
            worst=worst,
            worst_at_most=worst if method.is_exact else ceiling,
            worst_pair=found.farthest,
            mean=mean,
            mean_low=low,
            mean_high=high,
            unreachable=unreachable,
            unreachable_share=unreachable_share,
            unreachable_pair=found.missing,
            method=method,
        )

    def _layers(self, hops: Hops, fields: tuple[Spread, ...]) -> Coverage:
        """Coverage by layer where a layer is a level of the search."""
        count = self.stack.layers if self.stack.is_counted else min(hops.worst or 1, _LISTED)
        shares, lows, highs = (np.zeros(count) for _ in range(3))
        for step in hops.steps:
            shares[step.last - 1 :] += step.share
            lows[step.last - 1 :] += step.low
            highs[step.last - 1 :] += step.high
        is_all = hops.unreachable == 0 or (hops.unreachable is None and not hops.unreachable_pair)
        worst = hops.worst or 0
        fully = worst if is_all and worst <= count else None
        if fully:
            shares[fully - 1 :] = 1.0  # no rounding error in what is complete
        return Coverage(
            tuple(shares.tolist()),
            tuple(np.clip(lows, 0, 1).tolist()),
            tuple(np.clip(highs, 0, 1).tolist()),
            fully,
            fields[:count],
            hops.method,
            hops.unreachable_pair if fully is None else None,
        )

    def _fields(self, found: Found, is_exact: bool) -> tuple[Spread, ...]:
        """The receptive fields after each level; of a sample as if every token were as likely."""
        space = self.space
        reached = found.reached[:_LISTED] + 1
        if is_exact and space.block == 1 and not space.is_masked:
            return tuple(Spread.of_counts(one, space.start) for one in reached)
        if space.is_masked:
            return ()
        weights = np.ones(space.length) if is_exact else 1 / np.maximum(space.per_reader, 1)
        chances = weights[found.seeds] * (space.weights[found.seeds] if is_exact else 1)
        return tuple(
            Spread.of_sample(one, chances, found.seeds * space.block + space.start)
            for one in reached
        )


def closed_part(region: Region, start: int, stop: int) -> Zones:
    """Pairs that are certain to be in a region, in closed form: what is listed is left out."""
    if isinstance(region, Either):
        parts = [closed_part(part, start, stop) for part in region.parts]
        return reduce(Zones.__or__, parts)
    if any(isinstance(leaf, (Links, Condition)) for leaf in leaves(region)):
        return Zones.empty(start, stop)
    try:
        return checked(region.zones(start, stop))
    except TooComplex:
        return Zones.empty(start, stop)


def joined(parts: Iterable[Found]) -> Found:
    """What was found from all seeds; searches that ended earlier are as they were at their end."""
    found = list(parts)
    levels = max(len(one.reached) for one in found)
    reached = [
        np.pad(one.reached, ((0, levels - len(one.reached)), (0, 0)), "edge") for one in found
    ]
    longest = max(found, key=lambda one: (one.farthest is not None, len(one.reached)))
    missing = next((one.missing for one in found if one.missing is not None), None)
    return Found(
        np.concatenate([one.seeds for one in found]), np.concatenate(reached, axis=1),
        longest.farthest, missing,
    )  # fmt: skip
