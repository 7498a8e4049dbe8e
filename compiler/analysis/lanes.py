"""Cuts and capacities at any length, for patterns made of windows and hubs.

If every token reads the `w` tokens before it, the tokens between a source and a target fall into
`w` *lanes*, by their remainder: routes that share no token. Hubs that read the source and are read
by the target are one route more each. That many tokens are needed to part the two; and as many
neighbours in a row, with the hubs, do part them where nothing else reaches over. Where the two
numbers meet, they are the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.zones import Bounds, Zones

_MOST_HUBS = 1024

Runs = tuple[tuple[int, int], ...]
"""Positions as ranges `(start, stop)`, ascending."""


@dataclass(frozen=True)
class Ends:
    """Two sets of positions, each in ascending ranges: information goes from one to the other."""

    sources: Runs
    targets: Runs

    @property
    def goes_up(self) -> bool | None:
        """Whether all sources come before all targets; `None` if neither comes first."""
        if self.sources[-1][1] <= self.targets[0][0]:
            return True
        return False if self.targets[-1][1] <= self.sources[0][0] else None

    @property
    def sizes(self) -> tuple[int, int]:
        """How many sources and how many targets there are."""
        return _size(self.sources), _size(self.targets)


@dataclass(frozen=True, eq=False)
class Lanes:
    """The lanes and hubs between two ends, in the zones of one kind of layer."""

    reads: Zones
    ends: Ends
    hubs: tuple[int, ...]
    is_causal: bool
    is_mirrored: bool = False
    """Whether positions are counted from the other end."""

    @classmethod
    def between(cls, stack: Stack, ends: Ends, hubs: list[int], *, is_causal: bool) -> Lanes | None:
        """The lanes between two ends, of which one must come first; for few hubs."""
        known = stack.is_uniform and stack.kinds[0].has_zones
        if not known or ends.goes_up is None or len(hubs) > _MOST_HUBS:
            return None
        reads = stack.kinds[0].zones
        if len(reads.places) > 1:
            return None
        if not ends.goes_up:  # the same, seen from the other end of the sequence
            reads = _mirrored(reads)
            last = reads.start + reads.stop - 1
            ends = Ends(_turned(ends.sources, last), _turned(ends.targets, last))
            hubs = [last - hub for hub in hubs]
            return cls(reads, ends, tuple(sorted(hubs)), is_causal, is_mirrored=True)
        return cls(reads, ends, tuple(sorted(hubs)), is_causal)

    @property
    def first(self) -> int:
        """The source that is nearest to the targets."""
        return self.ends.sources[-1][1] - 1

    @property
    def last(self) -> int:
        """The target that is nearest to the sources."""
        return self.ends.targets[0][0]

    @cached_property
    def is_direct(self) -> bool:
        """Whether a target reads a source, so that nothing parts them."""
        pairs = [
            Bounds(i=(a, b - 1), j=(c, d - 1))
            for a, b in self.ends.targets
            for c, d in self.ends.sources
        ]
        return bool(self.reads & Zones.union(self.reads.start, self.reads.stop, pairs))

    @cached_property
    def width(self) -> int:
        """The most tokens that every token between the ends reads right before it, in a row."""
        inside = (self.first, self.last)
        if self.first + 1 == self.last:  # they touch: the lanes run through the ends themselves
            inside = (self.ends.sources[0][0], self.ends.targets[-1][1] - 1)
        low, high = 0, inside[1] - inside[0]
        while low < high:
            middle = (low + high + 1) // 2
            band = Zones.zone(self.reads.start, self.reads.stop, i=inside, j=inside, d=(1, middle))
            low, high = (middle, high) if band.issubset(self.reads) else (low, middle - 1)
        return low

    @cached_property
    def relays(self) -> tuple[int, ...]:
        """The hubs, outside of the ends, that read a source and are read by a target."""
        return tuple(
            hub
            for hub in self.hubs
            if not _holds(self.ends.sources, hub)
            and not _holds(self.ends.targets, hub)
            and _common(self.reads.row(hub), self.ends.sources)
            and _common(self.reads.column(hub), self.ends.targets)
        )

    @cached_property
    def at_least(self) -> int:
        """Routes that share no token: lanes around the relays, and the relays."""
        crowded = max((self._num_relays(relay) for relay in self._inside), default=0)
        return max(self.width - crowded, 0) + len(self.relays)

    @property
    def at_most(self) -> int | None:
        """How many tokens part the ends; `None` if no neighbours and relays do."""
        place = self._place
        if place is None:
            return None
        return self.width + len(self.relays) - self._num_relays(place)

    @property
    def cut(self) -> tuple[int, ...]:
        """Such tokens, the neighbours and the relays."""
        place = self._place
        if place is None:
            return ()
        found = {*range(place, place + self.width), *self.relays}
        if self.is_mirrored:
            found = {self.reads.start + self.reads.stop - 1 - token for token in found}
        return tuple(sorted(found))

    @cached_property
    def _place(self) -> int | None:
        """Where neighbours in a row part the ends, with as many relays among them as can be."""
        places = [self.first + 1, self.last - self.width]
        for relay in self._inside:
            places += [relay, relay - self.width + 1]
        inside = [p for p in places if self.first < p <= self.last - self.width]
        best = sorted(dict.fromkeys(inside), key=self._num_relays, reverse=True)[:3]
        return next((place for place in best if self._parts(place)), None)

    @property
    def _inside(self) -> list[int]:
        return [relay for relay in self.relays if self.first < relay < self.last]

    def _num_relays(self, start: int) -> int:
        """The relays among the neighbours in a row from a token on."""
        return sum(start <= relay < start + self.width for relay in self._inside)

    def _parts(self, start: int) -> bool:
        """Whether nothing reaches over the neighbours from a token on but the relays."""
        low = self.ends.sources[0][0] if self.is_causal else self.reads.start
        over = Zones.zone(
            self.reads.start, self.reads.stop,
            i=(start + self.width, self.reads.stop - 1), j=(low, start - 1),
        )  # fmt: skip
        return self._not_by_relays(self.reads & over).is_empty()

    @cached_property
    def _jumps(self) -> bool:
        """Whether some read goes farther up than the lanes, and is not one over a relay."""
        start, stop = self.reads.start, self.reads.stop
        farther = self.reads & Zones.zone(start, stop, d=(self.width + 1, stop - start))
        return not self._not_by_relays(farther).is_empty()

    def _not_by_relays(self, reads: Zones) -> Zones:
        for relay in self.relays:
            taken = [Bounds(i=(relay, relay)), Bounds(j=(relay, relay))]
            reads = reads - Zones.union(reads.start, reads.stop, taken)
        return reads

    # --- over layers ---

    def capacity(self, layers: int) -> tuple[int, int] | None:
        """At least and at most so many routes share no state in so many layers.

        A relay is one state more for each layer but the last, in which it is read. Lanes `w` routes
        across in every layer, if the ends touch; if they are so many hops apart that the layers do
        not suffice, none. In between only the upper bound is known. Each of the neighbours that
        part the ends is of use in those layers that leave time to come and to go on.
        """
        if self.at_most is None and not self._parts_touching():
            return None
        most = min(self.ends.sizes)
        apart = -(-(self.last - self.first) // self.width) if self.width else layers + 1
        rounds = max(layers - apart + 1, 0)
        lanes = self.width * rounds if apart == 1 else 0
        nearer = min(apart, 1 if self.is_direct else 2) if self._jumps else apart
        most_rounds = max(layers - nearer + 1, 0)
        at_most = min(most, self.width * most_rounds + len(self.relays) * (layers - 1))
        # Every route needs a source and a target of its own, also where a relay serves few of them.
        serving = sum(self._serves(relay, at_most) for relay in self.relays)
        return min(most, lanes + serving * (layers - 1)), at_most

    def _serves(self, relay: int, routes: int) -> bool:
        """Whether a relay reads a source for each route, and is read by a target for each."""
        sources = _common(self.reads.row(relay), self.ends.sources)
        targets = _common(self.reads.column(relay), self.ends.targets)
        return min(sources, targets) >= routes

    def _parts_touching(self) -> bool:
        """Whether nothing but the lanes and the relays crosses between ends that touch."""
        return self.first + 1 == self.last and self._parts(self.last - self.width)


def _mirrored(reads: Zones) -> Zones:
    """The same with the last position first; over one digit.

    >>> print(_mirrored(Zones.zone(0, 3, d=(0, 1))))
    ██·
    ·██
    ··█
    """
    last = reads.start + reads.stop - 1
    boxes = -reads.boxes[..., [1, 0, 3, 2, 5, 4]]
    boxes[..., :4] += last
    return Zones(reads.start, reads.stop, reads.places, boxes)


def _turned(runs: Runs, last: int) -> Runs:
    return tuple((last + 1 - stop, last + 1 - start) for start, stop in reversed(runs))


def _size(runs: Runs) -> int:
    return sum(stop - start for start, stop in runs)


def _holds(runs: Runs, position: int) -> bool:
    return any(start <= position < stop for start, stop in runs)


def _common(runs: list[tuple[int, int]], others: Runs) -> int:
    """How many positions are in both of two lists of ranges."""
    return sum(max(0, min(b, d) - max(a, c)) for a, b in runs for c, d in others)
