"""A report as plain values: the keys are stable, and the same for every pattern."""

from __future__ import annotations

from typing import Any

from attnloom.compiler.analysis.cost import Cost
from attnloom.compiler.analysis.figures import Coverage, Hops, Method, Pair
from attnloom.compiler.analysis.hubs import Hubs
from attnloom.compiler.analysis.lanes import Ends
from attnloom.compiler.analysis.narrow import Narrow
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spread import Spread
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.analysis.work import Work

SECTIONS = ("route", "hubs", "narrow", "cost")
"""Sections that may be left out where they are too much work; why is under `unknown`."""


def as_json(report: Report) -> dict[str, Any]:
    """All sections of a report."""
    stack = report.stack
    found = {
        "pattern": stack.name,
        "n": stack.tokens,
        "memory": stack.memory,
        "heads": stack.heads,
        "layers": stack.layers if stack.is_counted else None,
        "causal": report.intended.is_causal,
        "work": _work(report.work, stack),
        "reach": {
            "intended_pairs": report.hops.total,
            "reads_ahead": report.intended.reads_ahead,
            **_hops(report.hops, stack),
            **_coverage(report.coverage),
        },
        "route": _route(report),
        "hubs": None if report.unknown("hubs") else _hubs(report.hubs, stack),
        "narrow": None if report.unknown("narrow") else _narrow(report.narrow, stack),
        "cost": None if report.unknown("cost") else _cost(report.cost),
        "unknown": {name: why for name in SECTIONS if (why := report.unknown(name)) is not None},
        "warnings": [{"code": one.code, "message": one.message} for one in report.warnings],
    }
    return {**found, "method": _method(report.hops.method)}


def _method(method: Method) -> dict[str, Any]:
    return {
        "engine": method.engine,
        "exact": method.is_exact,
        "samples": method.samples or None,
        "note": method.note or None,
    }


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {"min": spread.least, "median": spread.median, "max": spread.most, "mean": spread.mean}


def _pair(pair: Pair | None, stack: Stack) -> dict[str, Any] | None:
    if pair is None:
        return None
    return {"source": stack.name_of(pair.source), "target": stack.name_of(pair.target)}


def _work(work: Work, stack: Stack) -> dict[str, Any]:
    empty = work.empty_row
    return {
        "layers_counted": work.layers,
        "reads": work.reads,
        "pairs": work.pairs,
        "density": work.density,
        "reads_per_token": _spread(work.per_query),
        "readers_per_token": _spread(work.per_key),
        "empty_rows": {
            "query": stack.name_of(empty.query),
            "layer": empty.layer,
            "queries": empty.num_queries,
        }
        if empty
        else None,
        "kinds": [
            {
                "layers": list(kind.layers),
                "reads": kind.reads,
                "density": kind.density,
                "reads_per_token": _spread(kind.per_query),
            }
            for kind in work.kinds
        ],
        "method": _method(work.kinds[0].method),
    }


def _hops(hops: Hops, stack: Stack) -> dict[str, Any]:
    return {
        "worst_hops": hops.worst,
        "worst_hops_at_most": hops.worst_at_most,
        "worst_pair": _pair(hops.worst_pair, stack),
        "mean_hops": hops.mean,
        "mean_hops_between": None if hops.mean is None else [hops.mean_low, hops.mean_high],
        "hops": {step.name: step.share for step in hops.steps},
        "hop_pairs": {step.name: step.pairs for step in hops.steps}
        if hops.method.is_exact
        else None,
        "unreachable_pairs": hops.unreachable,
        "unreachable_share": hops.unreachable_share,
        "unreachable_pair": _pair(hops.unreachable_pair, stack),
    }


def _coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "coverage_by_layer": list(coverage.shares),
        "full_coverage_layer": coverage.full_layer,
        "receptive_field_by_layer": [_spread(field) for field in coverage.fields],
    }


def _route(report: Report) -> dict[str, Any] | None:
    """A route; the path is left out of one that is long and was not asked for."""
    pair, stack = report.pair, report.stack
    if pair is None:
        return None
    ends = _pair(pair, stack) or {}
    if not report.is_route_listed or report.unknown("route"):
        return {**ends, "hops": report.hops.worst, "arrival_layer": None, "path": None}
    route = report.route
    if route is None:
        return {**ends, "hops": None, "arrival_layer": None, "path": []}
    path = [
        {
            "source": stack.name_of(read.source),
            "target": stack.name_of(read.target),
            "layer": read.layer,
            "by": read.rule.name,
            "statement": read.rule.statement,
        }
        for read in route.reads
    ]
    return {**ends, "hops": route.hops, "arrival_layer": route.arrival, "path": path}


def _hubs(hubs: Hubs, stack: Stack) -> dict[str, Any]:
    traffic, without = hubs.traffic, hubs.without
    return {
        "count": hubs.count,
        "tokens": [stack.name_of(one) for one in hubs.positions],
        "loads": None
        if traffic is None
        else [
            {
                "token": stack.name_of(load.token),
                "share": load.share,
                "between": [load.low, load.high],
            }
            for load in traffic.loads
        ],
        "load_at_most": None if traffic is None else traffic.at_most,
        "load_method": None if traffic is None else _method(traffic.method),
        "dependent_share": hubs.dependent_share,
        "relay_nothing": hubs.relay_nothing,
        "without": None
        if without is None
        else {
            "worst_hops": without.worst,
            "mean_hops": without.mean,
            "unreachable_pairs": without.unreachable,
            "method": _method(without.method),
        },
        "without_one": [
            {
                "token": stack.name_of(loss.token),
                "worst_hops": loss.hops.worst,
                "mean_hops": loss.hops.mean,
                "unreachable_pairs": loss.hops.unreachable,
            }
            for loss in hubs.losses
        ],
        "fewest_two_hop_routes": None if traffic is None else traffic.fewest_routes,
        "fewest_two_hop_routes_share": None if traffic is None else traffic.fewest_share,
    }


def _narrow(narrow: Narrow, stack: Stack) -> dict[str, Any]:
    cut, capacity, profile = narrow.token_cut, narrow.capacity, narrow.profile
    exact_cut = cut is not None and cut.at_least == cut.at_most
    return {
        "token_cut": cut.at_most if cut is not None and exact_cut else None,
        "token_cut_between": None if cut is None else [cut.at_least, cut.at_most],
        "token_cut_ends": None if cut is None else _ends(cut.ends, stack),
        "token_cut_tokens": None if cut is None else _ranges(cut.tokens, stack),
        "token_cut_method": None if cut is None else _method(cut.method),
        "capacity": capacity.at_most
        if capacity is not None and capacity.at_least == capacity.at_most
        else None,
        "capacity_between": None if capacity is None else [capacity.at_least, capacity.at_most],
        "capacity_ends": None if capacity is None else _ends(capacity.ends, stack),
        "squeeze": narrow.squeeze,
        "single_points": None
        if narrow.single_points is None
        else [stack.name_of(one) for one in narrow.single_points],
        "spectral_gap": narrow.spectral_gap,
        "profile": None
        if profile is None
        else {
            "places": list(profile.places),
            "forward_reads": list(profile.forward),
            "backward_reads": list(profile.backward),
            "middle_states": profile.states,
        },
    }


def _ranges(tokens: tuple[int, ...], stack: Stack) -> list[list[Any]]:
    """Ascending tokens as ranges: first and last, both inclusive."""
    found: list[list[int]] = []
    for token in tokens:
        if found and found[-1][1] == token - 1:
            found[-1][1] = token
        else:
            found.append([token, token])
    return [[stack.name_of(first), stack.name_of(last)] for first, last in found]


def _ends(ends: Ends, stack: Stack) -> dict[str, Any]:
    """Ranges of tokens: first and last, both inclusive."""
    return {
        name: [[stack.name_of(start), stack.name_of(stop - 1)] for start, stop in runs]
        for name, runs in (("from", ends.sources), ("to", ends.targets))
    }


def _cost(cost: Cost) -> dict[str, Any]:
    keys, tiles, growth = cost.cache, cost.tiles, cost.growth
    return {
        "complexity": cost.complexity[0] if len(cost.complexity) == 1 else list(cost.complexity),
        "kv_cache": None if keys is None else keys.keys,
        "kv_cache_all_layers": None if keys is None else keys.all_layers,
        "tiles": None
        if tiles is None
        else {
            "size": tiles.size,
            "touched": tiles.touched,
            "total": tiles.total,
            "waste": tiles.waste,
        },
        "growth": None
        if growth is None
        else {
            "from_tokens": growth.tokens,
            "reads": growth.reads,
            "kv_cache": growth.cache,
            "tiles": growth.tiles,
        },
    }
