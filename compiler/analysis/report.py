"""The report: all that is found about a pattern at a length, worked out as it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, TypeVar

from attnloom.compiler.analysis.cost import Cost, cost
from attnloom.compiler.analysis.figures import Coverage, Hops, Note, Pair
from attnloom.compiler.analysis.intended import Intended, intended
from attnloom.compiler.analysis.reach import SAMPLES, Reach
from attnloom.compiler.analysis.routes import Route, route
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.analysis.subject import Subject
from attnloom.compiler.analysis.work import Work, work
from attnloom.compiler.evaluate import too_much
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.problems import PatternError
from attnloom.compiler.zones import TooComplex

T = TypeVar("T")

MOST_LISTED_HOPS = 10_000
"""Hops up to which the route between the farthest pair is listed without being asked for."""


def section(find: Callable[[Any], T]) -> cached_property[T]:
    """A part of a report, worked out once; a limit that is met is a diagnostic at the pattern."""

    @wraps(find)
    def limited(report: Report) -> T:
        try:
            return find(report)
        except (TooLarge, TooComplex) as error:
            place = report.subject.pattern.place
            raise PatternError([too_much(place, str(error))]) from None

    return cached_property(limited)


@dataclass(frozen=True)
class Options:
    """What else is asked for: a pair whose route is shown, and how many positions to sample."""

    pair: Pair | None = None
    samples: int = SAMPLES


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

    @property
    def stack(self) -> Stack:
        return self.subject.stack

    @section
    def intended(self) -> Intended:
        """Which pairs are meant to meet."""
        return intended(self.stack)

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
        worst = self.hops.worst
        return self.hops.worst_pair if worst and worst <= MOST_LISTED_HOPS else None

    @section
    def route(self) -> Route | None:
        """A shortest route for the pair, `None` if it has none."""
        if self.pair is None:
            return None
        self.note("looking for a route")
        return route(self.stack, self.pair)

    @section
    def cost(self) -> Cost:
        """What it asks of a machine."""
        self.note("counting tiles and live keys")
        return cost(self.subject, self.work.reads)

    def to_dict(self) -> dict[str, Any]:
        """All sections as plain values, for JSON."""
        from attnloom.compiler.analysis.as_json import as_json

        return as_json(self)

    def __repr__(self) -> str:
        stack = self.stack
        layers = f", {stack.layers} layers" if stack.is_counted else ""
        return f"Report({stack.name}, n={stack.tokens}{layers})"
