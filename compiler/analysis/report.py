"""The report: all that is found about a pattern at a length, worked out as it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, TypeVar

from attnloom.compiler.analysis import by_zones
from attnloom.compiler.analysis.cost import Cost, cost
from attnloom.compiler.analysis.figures import Coverage, Hops, Note, Pair
from attnloom.compiler.analysis.hubs import Hubs, find_hubs
from attnloom.compiler.analysis.intended import Intended, intended
from attnloom.compiler.analysis.lanes import Ends
from attnloom.compiler.analysis.narrow import Narrow, narrow
from attnloom.compiler.analysis.properties import star
from attnloom.compiler.analysis.reach import SAMPLES, Reach
from attnloom.compiler.analysis.routes import Route, route
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.analysis.subject import Subject
from attnloom.compiler.analysis.warnings import Warning, warnings
from attnloom.compiler.analysis.work import Work, work
from attnloom.compiler.evaluate import too_much
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.problems import PatternError
from attnloom.compiler.tokens import TokenSet
from attnloom.compiler.zones import TooComplex

T = TypeVar("T")

MOST_LISTED_HOPS = 64
"""Hops up to which the route between the farthest pair is listed without being asked for."""


def section(find: Callable[[Any], T]) -> cached_property[T]:
    """A part of a report, worked out once; a limit that is met is a diagnostic at the pattern."""
    name = find.__name__

    @wraps(find)
    def limited(report: Report) -> T:
        if name in report.limits_met:
            raise report.limits_met[name]
        try:
            with report.limits():
                return find(report)
        except PatternError as error:
            report.limits_met[name] = error
            raise

    return cached_property(limited)


@dataclass(frozen=True)
class Options:
    """What else is asked for.

    `pair` is one whose route is shown, `ends` are two sets of tokens whose cut is, and `samples` is
    how many positions are searched from where not all can be.
    """

    pair: Pair | None = None
    ends: Ends | None = None
    samples: int = SAMPLES

    @classmethod
    def of(cls, pair: Pair | None, sets: Sequence[TokenSet] | None, samples: int) -> Options:
        """The options with token sets as ranges of positions."""
        ends = None
        if sets is not None:
            sources, targets = (
                tuple(zip(*(side.tolist() for side in one.runs), strict=True)) for one in sets
            )
            ends = Ends(sources, targets)
        return cls(pair, ends, samples)


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """An analysis, in sections; each is worked out when it is first asked for.

    >>> import attnloom
    >>> report = attnloom.load("longformer").analyze(4096)
    >>> report.work.reads, report.hops.worst, round(report.hops.mean, 3)
    (2043134, 2, 1.878)
    """

    subject: Subject
    options: Options = field(default_factory=Options)
    note: Note = lambda _: None
    limits_met: dict[str, PatternError] = field(default_factory=dict, init=False)
    """The sections that turned out to be too much work."""

    @property
    def stack(self) -> Stack:
        return self.subject.stack

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Turn a limit that is met into a diagnostic at the pattern."""
        try:
            yield
        except (TooLarge, TooComplex) as error:
            place = self.subject.pattern.place
            raise PatternError([too_much(place, str(error))]) from None

    def with_pair(self, source: int, target: int) -> Report:
        """The same with another pair, whose route is shown; sections are worked out anew."""
        return replace(self, options=replace(self.options, pair=Pair(source, target)))

    @section
    def intended(self) -> Intended:
        """Which pairs are meant to meet: those of the whole pattern, without what is taken away."""
        found = intended(self.subject.whole)
        return found if self.subject.removed is None else found.without(self.subject.removed)

    @section
    def work(self) -> Work:
        """How many pairs are read, and by whom."""
        self.note("counting the reads")
        return work(self.stack)

    @cached_property
    def _reach(self) -> Reach:
        return Reach(self.stack, self.intended, self.note, self.options.samples)

    @section
    def hops(self) -> Hops:
        """How far apart the intended pairs are."""
        return self._reach.hops

    @section
    def coverage(self) -> Coverage:
        """What is connected after each layer."""
        return self._reach.coverage

    @section
    def pair(self) -> Pair | None:
        """The pair whose route is shown: the one asked for, or a farthest one."""
        if self.options.pair is not None:
            return self.options.pair
        return self.hops.worst_pair

    @property
    def is_route_listed(self) -> bool:
        """Whether the route was asked for, or is short."""
        return self.options.pair is not None or (self.hops.worst or 0) <= MOST_LISTED_HOPS

    @section
    def route(self) -> Route | None:
        """A shortest route for the pair, `None` if it has none, or if it is not listed."""
        if self.pair is None or not self.is_route_listed:
            return None
        self.note("looking for a route")
        return route(self.stack, self.pair)

    @section
    def hubs(self) -> Hubs:
        """What hubs carry, and what becomes of the pattern without them."""
        return find_hubs(
            self.stack, self.intended, self.hops, self.work, self.note, self.options.samples
        )

    @section
    def narrow(self) -> Narrow:
        """What parts two ends, and how many states carry far information."""
        self.note("looking for narrow places")
        spread = self.work.per_query
        median = None if spread is None else spread.median
        return narrow(self.stack, self.intended, self.pair, self.options.ends, median)

    @section
    def star(self) -> int | None:
        """The first token that reads all others and is read by them, if there is one."""
        return star(self.stack).token

    @section
    def leak(self) -> Pair | None:
        """Two tokens of different documents that are connected; `None` also if not known."""
        if self.intended.documents is None or not self.stack.has_zones:
            return None
        return by_zones.leak(self.stack, self.intended)

    @section
    def warnings(self) -> tuple[Warning, ...]:
        """What a designer should know before training."""
        return warnings(self)

    @section
    def cost(self) -> Cost:
        """What it asks of a machine."""
        self.note("counting tiles and live keys")
        return cost(self.subject, self.work.reads)

    def unknown(self, section: str) -> str | None:
        """Why a section cannot be worked out within the limits; `None` if it can."""
        try:
            getattr(self, section)
        except PatternError as error:
            return error.diagnostics[0].message
        return None

    def to_dict(self) -> dict[str, Any]:
        """All sections as plain values, for JSON; those that are too much work are `None`."""
        from attnloom.compiler.analysis.as_json import as_json

        return as_json(self)

    def __str__(self) -> str:
        """All sections as text; every line says how it was found."""
        from attnloom.compiler.analysis.as_text import as_text

        return "\n".join(map(str, as_text(self)))

    def __repr__(self) -> str:
        stack = self.stack
        layers = f", {stack.layers} layers" if stack.is_counted else ""
        return f"Report({stack.name}, n={stack.tokens}{layers})"
