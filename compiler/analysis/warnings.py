"""Warnings: what a designer should know before training, each with a code that stays the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnloom.compiler.analysis import by_zones
from attnloom.compiler.analysis.figures import Method
from attnloom.compiler.analysis.spelling import share
from attnloom.compiler.zones import TooComplex

if TYPE_CHECKING:
    from attnloom.compiler.analysis.report import Report

HIGH_LOAD = 0.5
"""The share of relayed traffic from which on a single token is a bottleneck."""

HIGH_SQUEEZE = 100
"""Sources for each state that carries them, from which on little of each can get through."""

HIGH_WASTE = 0.25
"""Pairs that tiles compute and nobody reads, as a share of those that are read."""

_FEW_TILES = 4
"""Shorter sequences are mostly border, whatever the pattern."""

CODES = {
    "W101": "intended pairs that never meet",
    "W102": "a query that reads no key",
    "W103": "not everything is connected within the layers that are given",
    "W104": "the order of the layers matters",
    "W105": "the pattern depends on the layer, and no number of layers is given",
    "W106": "documents learn of each other",
    "W110": "globals that relay nothing",
    "W201": "one token carries most of the traffic",
    "W202": "one token is on every route",
    "W203": "many sources for each state that can carry them",
    "W301": "tiles that compute much more than is read",
    "I401": "a token reads all and is read by all",
}
"""Every code, and what it is about; those that begin with I are not warnings but notes."""


@dataclass(frozen=True)
class Warning:
    """Something to know about a pattern: a code of `CODES`, what was found, and how."""

    code: str
    message: str
    method: Method

    @property
    def is_note(self) -> bool:
        """Whether it is good to know and no reason to worry."""
        return self.code.startswith("I")


Found = Iterator[tuple[str, str, Method]]


def warnings(report: Report) -> tuple[Warning, ...]:
    """All warnings about what a report has found, in the order of their codes, notes last."""
    found = [*_reach(report), *_layers(report)]
    found += [] if report.unknown("hubs") else _hubs(report)
    found += [] if report.unknown("narrow") else _narrow(report)
    found += [] if report.unknown("cost") else _cost(report)
    return tuple(sorted((Warning(*one) for one in found), key=lambda one: (one.is_note, one.code)))


def _reach(report: Report) -> Found:
    hops, stack = report.hops, report.stack
    pair = hops.unreachable_pair
    if pair is not None and (hops.unreachable or hops.unreachable is None):
        amount = share(hops.unreachable_share)
        pairs = f"about {amount} of the intended pairs"
        if hops.unreachable is not None:
            pairs = f"{hops.unreachable:,} intended pairs ({amount})"
        yield (
            "W101",
            f"{pairs} never meet, for example {stack.name_of(pair.source)} -> "
            f"{stack.name_of(pair.target)}",
            hops.method,
        )
    empty = report.work.empty_row
    if empty is not None:
        queries = "some queries read" if empty.num_queries is None else (
            f"{empty.num_queries:,} quer{'y reads' if empty.num_queries == 1 else 'ies read'}"
        )  # fmt: skip
        where = "" if stack.is_uniform else f" in layer {empty.layer}"
        example = stack.name_of(empty.query)
        method = report.work.kinds[0].method
        yield "W102", f"{queries} no key{where}, for example {example}", method
    if report.leak is not None:
        source, target = (stack.name_of(one) for one in (report.leak.source, report.leak.target))
        example = f"{source} -> {target}"
        yield "W106", f"documents learn of each other, for example {example}", by_zones.METHOD


def _layers(report: Report) -> Found:
    stack, coverage = report.stack, report.coverage
    if report.subject.depends_on_layer and not stack.is_counted:
        yield (
            "W105",
            "the pattern depends on the layer; this is layer 0 alone, repeated (--layers)",
            Method("pattern"),
        )
    if not stack.is_counted or not report.hops.total:
        return
    if coverage.full_layer is None:
        amount = share(coverage.shares[-1])
        example = ""
        if coverage.missing_pair is not None:
            pair = coverage.missing_pair
            names = stack.name_of(pair.source), stack.name_of(pair.target)
            example = f", not {names[0]} -> {names[1]}"
        layers = f"{stack.layers} layer{'s' * (stack.layers > 1)}"
        yield "W103", f"{layers} connect {amount} of the intended pairs{example}", coverage.method
    if not stack.is_uniform and stack.has_zones:
        try:
            order = stack.order[::-1]
            turned = by_zones.coverage(stack, order, report.intended, report.note).shares[-1]
        except TooComplex:
            return
        if turned != coverage.shares[-1]:
            less = 100 * (coverage.shares[-1] - turned)
            change = f"{'loses' if less > 0 else 'gains'} {abs(less):.3g} %"
            yield (
                "W104",
                f"the order of the layers matters: the reverse order {change} of the pairs",
                coverage.method,
            )


def _hubs(report: Report) -> Found:
    stack, hubs = report.stack, report.hubs
    if hubs.relay_nothing and report.intended.is_causal and (report.hops.worst or 0) > 1:
        mean = hubs.without.mean if hubs.without is not None else None
        other = f" (mean {mean:.4g} without them)" if mean is not None else ""
        yield (
            "W110",
            "these globals are sinks: whatever comes before them is read directly by whoever reads "
            f"them, so they relay nothing{other}",
            by_zones.METHOD,
        )
    traffic = hubs.traffic
    loads = traffic.loads if traffic is not None else ()
    if traffic is not None and loads and loads[0].low > HIGH_LOAD:
        amount = share(loads[0].share)
        rest = ""
        if hubs.dependent_share:
            rest = f"; {share(hubs.dependent_share)} of all pairs have no other shortest route"
        token = stack.name_of(loads[0].token)
        yield "W201", f"token {token} carries {amount} of the traffic{rest}", traffic.method
    if hubs.vital:
        yield _single(report, hubs.vital, hubs.losses[0].hops.method)


def _narrow(report: Report) -> Found:
    stack, narrow = report.stack, report.narrow
    vital = () if report.unknown("hubs") else report.hubs.vital
    others = tuple(one for one in narrow.single_points or () if one not in vital)
    if others:
        yield _single(report, others, Method("dominators"))
    carried, spread = narrow.capacity, report.work.per_query
    if narrow.squeeze is not None and narrow.squeeze > HIGH_SQUEEZE and carried and spread:
        beyond = stack.length - (spread.median or 0)
        yield (
            "W203",
            f"squeeze {narrow.squeeze:,.0f}: {beyond:,} tokens beyond the direct reads of the "
            f"median token share {carried.at_least:,} states over {carried.layers} layers",
            carried.method,
        )


def _single(report: Report, tokens: Sequence[int], method: Method) -> tuple[str, str, Method]:
    names = ", ".join(str(report.stack.name_of(one)) for one in tokens[:4])
    more = f" and {len(tokens) - 4:,} more" if len(tokens) > 4 else ""
    what = "a single point" if len(tokens) == 1 else "single points"
    return (
        "W202",
        f"{what} of failure: without {names}{more} some pairs never meet",
        method,
    )


def _cost(report: Report) -> Found:
    tiles = report.cost.tiles
    is_long = tiles is not None and report.stack.length >= _FEW_TILES * tiles.size
    if tiles is not None and is_long and tiles.waste > HIGH_WASTE:
        yield (
            "W301",
            f"tiles of {tiles.size} compute {100 * tiles.waste:,.0f} % more pairs than are read",
            tiles.method,
        )
    star = report.star
    if star is not None:
        name = report.stack.name_of(star)
        yield "I401", f"token {name} reads all and is read by all", Method("pattern")
