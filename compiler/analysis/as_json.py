"""A report as plain values: the keys are stable, and the same for every pattern."""

from __future__ import annotations

from typing import Any

from attnloom.compiler.analysis.cost import Cost
from attnloom.compiler.analysis.figures import Coverage, Hops, Method, Pair
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.routes import Route
from attnloom.compiler.analysis.spread import Spread
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.analysis.work import Work


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
            **_hops(report.hops, stack),
            **_coverage(report.coverage),
        },
        "route": _route(report.route, report.pair, stack),
        "cost": _cost(report.cost),
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


def _route(route: Route | None, pair: Pair | None, stack: Stack) -> dict[str, Any] | None:
    if pair is None:
        return None
    return {
        **(_pair(pair, stack) or {}),
        "hops": None if route is None else route.hops,
        "path": []
        if route is None
        else [
            {
                "source": stack.name_of(read.source),
                "target": stack.name_of(read.target),
                "layer": read.layer,
                "by": read.rule.name,
                "statement": read.rule.statement,
            }
            for read in route.reads
        ],
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
