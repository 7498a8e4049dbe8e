"""Single numbers by the names that contracts use, without the rest of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attnloom.compiler.analysis import properties
from attnloom.compiler.analysis.figures import Method, Pair
from attnloom.compiler.analysis.properties import Verdict
from attnloom.compiler.analysis.report import Report


@dataclass(frozen=True)
class Figure:
    """A number and how sure it is.

    The true value lies within `low..high`, which are the value itself when it is exact; with
    samples they are the interval, and where nothing is known minus and plus infinity. `value` is
    `None` where the number makes no sense for the pattern. `pair` or `token` shows it.
    """

    value: float | None
    low: float
    high: float
    is_exact: bool
    method: Method
    pair: Pair | None = None
    token: int | None = None

    @classmethod
    def exact(
        cls, value: float, method: Method, *, pair: Pair | None = None, token: int | None = None
    ) -> Figure:
        return cls(value, value, value, True, method, pair, token)

    @classmethod
    def unknown(cls, method: Method) -> Figure:
        return cls(None, -math.inf, math.inf, False, method)


def metric(report: Report, name: str) -> Figure:
    """A metric of the language, by its name; see `attnloom.compiler.vocabulary.METRICS`.

    Hops and layers that no number of is enough are infinite.

    Raises:
        KeyError: there is none of that name.
        PatternError: it would be too much work.
    """
    return METRICS[name](report)


def verdict(report: Report, name: str) -> Verdict:
    """A property of the language, by its name; see `attnloom.compiler.vocabulary.PROPERTIES`.

    Raises:
        KeyError: there is none of that name.
        PatternError: it would be too much work.
    """
    with report.limits():
        return PROPERTIES[name](report)


def _hops(report: Report) -> Figure:
    hops = report.hops
    if hops.unreachable or (hops.unreachable is None and hops.unreachable_pair):
        return Figure.exact(math.inf, hops.method, pair=hops.unreachable_pair)
    worst = float(hops.worst or 0)
    if hops.method.is_exact:
        return Figure.exact(worst, hops.method, pair=hops.worst_pair)
    most = math.inf if hops.worst_at_most is None else float(hops.worst_at_most)
    return Figure(worst, worst, most, worst == most, hops.method, hops.worst_pair)


def _mean_hops(report: Report) -> Figure:
    hops = report.hops
    if hops.mean is None or hops.mean_low is None or hops.mean_high is None:
        return Figure.unknown(hops.method)
    exact = hops.mean_low == hops.mean_high
    return Figure(hops.mean, hops.mean_low, hops.mean_high, exact, hops.method)


def _reads(report: Report) -> Figure:
    return Figure.exact(report.work.reads, report.work.kinds[0].method)


def _density(report: Report) -> Figure:
    return Figure.exact(report.work.density, report.work.kinds[0].method)


def _reads_per_token(report: Report) -> Figure:
    spread, method = report.work.per_query, report.work.kinds[0].method
    if spread is None:
        return Figure.unknown(method)
    return Figure.exact(spread.most, method, token=spread.at_most)


def _readers_per_token(report: Report) -> Figure:
    spread, method = report.work.per_key, report.work.kinds[0].method
    if spread is None:
        return Figure.unknown(method)
    return Figure.exact(spread.most, method, token=spread.at_most)


def _coverage_layer(report: Report) -> Figure:
    """For one kind of layer without a number of layers, as many as the farthest pair needs."""
    if not report.stack.is_counted:
        return _hops(report)
    coverage = report.coverage
    if coverage.full_layer is None:
        return Figure.exact(math.inf, coverage.method, pair=coverage.missing_pair)
    layer = float(coverage.full_layer)
    high = layer if coverage.method.is_exact else math.inf
    return Figure(layer, layer, high, coverage.method.is_exact, coverage.method)


def _unreachable(report: Report) -> Figure:
    hops = report.hops
    if hops.unreachable is not None:
        return Figure.exact(hops.unreachable, hops.method, pair=hops.unreachable_pair)
    guess = hops.unreachable_share * hops.total
    low = 1.0 if hops.unreachable_pair else 0.0
    return Figure(guess, low, hops.total, False, hops.method, hops.unreachable_pair)


def _token_cut(report: Report) -> Figure:
    cut = report.narrow.token_cut
    if cut is None:
        return Figure.unknown(Method("none"))
    if cut.is_direct:
        return Figure.exact(math.inf, cut.method)
    low = float(cut.at_least or 0)
    high = math.inf if cut.at_most is None else float(cut.at_most)
    return Figure(high, low, high, low == high, cut.method, report.narrow.pair)


def _hub_load(report: Report) -> Figure:
    """In percent."""
    found = report.hubs.traffic
    if found is None:
        return Figure.unknown(Method("none"))
    if found.at_most is not None and found.method.is_exact:
        top = 100 * (found.loads[0].share if found.loads else found.at_most)
        low = top if found.loads else 0.0
        token = found.loads[0].token if found.loads else None
        high = 100 * found.at_most
        return Figure(top, low, high, low == high, found.method, token=token)
    if not found.loads:
        return Figure.unknown(found.method)
    load = found.loads[0]
    return Figure(
        100 * load.share, 100 * load.low, 100 * load.high, False, found.method, token=load.token
    )


def _kv_cache(report: Report) -> Figure:
    cache = report.cost.cache
    if cache is None:
        return Figure.unknown(Method("none"))
    return Figure.exact(cache.keys, cache.method, token=cache.at)


METRICS: Mapping[str, Callable[[Report], Figure]] = {
    "hops": _hops,
    "mean_hops": _mean_hops,
    "reads": _reads,
    "density": _density,
    "reads_per_token": _reads_per_token,
    "readers_per_token": _readers_per_token,
    "coverage_layer": _coverage_layer,
    "unreachable": _unreachable,
    "token_cut": _token_cut,
    "hub_load": _hub_load,
    "kv_cache": _kv_cache,
}

PROPERTIES: Mapping[str, Callable[[Report], Verdict]] = {
    "causal": lambda report: properties.causal(report.stack),
    "connected": properties.connected,
    "symmetric": lambda report: properties.symmetric(report.stack),
    "no_empty_rows": properties.no_empty_rows,
    "star": lambda report: properties.star(report.stack),
}
