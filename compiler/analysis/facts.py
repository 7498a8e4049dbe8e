"""The figures of a report one by one, in a fixed order, so that reports can be set side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attnloom.compiler.analysis.figures import Hops, Method
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spelling import decimal, how, share

Value = int | float | str | None


@dataclass(frozen=True)
class Fact:
    """A figure: what it is called in tables and in JSON, its value, in words, and how it was found.

    `value` is `None` where it makes no sense for the pattern or is not known.
    """

    name: str
    title: str
    value: Value
    text: str
    label: str

    @property
    def is_number(self) -> bool:
        return isinstance(self.value, (int, float))


def facts(report: Report) -> tuple[Fact, ...]:
    """All facts of a report; every report has the same ones in the same order.

    >>> import attnloom
    >>> found = {one.name: one for one in facts(attnloom.load("mistral").analyze(4096))}
    >>> found["worst_hops"].value, found["kv_cache"].text, found["kv_cache"].label
    (1, '4,096', 'exact, zones')
    """
    return (*_work(report), *_reach(report), *_hubs(report), *_narrow(report), *_cost(report))


def _number(name: str, title: str, value: int | None, label: str) -> Fact:
    return Fact(name, title, value, _NOTHING if value is None else f"{value:,}", label)


def _decimal(name: str, title: str, value: float | None, label: str) -> Fact:
    return Fact(name, title, value, _NOTHING if value is None else decimal(value), label)


def _share(name: str, title: str, value: float | None, label: str) -> Fact:
    return Fact(name, title, value, _NOTHING if value is None else share(value), label)


_NOTHING = "-"


def _work(report: Report) -> Iterator[Fact]:
    work = report.work
    method = work.kinds[0].method
    label = how(method)
    own, others = work.per_query, work.per_key
    yield _number("reads", "reads", work.reads, how(Method(method.engine)))
    yield _share("density", "density", work.density, how(Method(method.engine)))
    yield _number("reads_min", "reads per token, least", own.least if own else None, label)
    yield _number("reads_median", "reads per token, median", own.median if own else None, label)
    yield _number("reads_max", "reads per token, most", own.most if own else None, label)
    yield _number("readers_max", "readers per token, most", others.most if others else None, label)


def _reach(report: Report) -> Iterator[Fact]:
    hops, coverage = report.hops, report.coverage
    label = how(hops.method, _margin(hops))
    yield _number("worst_hops", "worst hops", hops.worst, how(hops.method))
    yield _decimal("mean_hops", "mean hops", hops.mean, label)
    direct = hops.steps[0].share if hops.steps and hops.steps[0].first == 1 else 0.0
    yield _share("direct_share", "pairs one hop apart", direct, label)
    yield _number("unreachable_pairs", "pairs that never meet", hops.unreachable, how(hops.method))
    yield _number(
        "full_coverage_layer", "full coverage after layer", coverage.full_layer,
        how(coverage.method),
    )  # fmt: skip
    last = coverage.shares[-1] if coverage.shares else None
    yield _share("coverage", "connected in the end", last, how(coverage.method))


def _margin(hops: Hops) -> float | None:
    if hops.mean_low is None or hops.mean_high is None:
        return None
    return (hops.mean_high - hops.mean_low) / 2


def _hubs(report: Report) -> Iterator[Fact]:
    found = None if report.unknown("hubs") else report.hubs
    traffic, without = (found.traffic, found.without) if found else (None, None)
    load = None
    if traffic is not None:
        load = traffic.loads[0].share if traffic.loads else traffic.at_most
    label = "unknown" if traffic is None else how(traffic.method)
    yield _share("hub_load", "busiest token's share of traffic", load, label)
    label = "unknown" if without is None else how(without.method)
    dependent = found.dependent_share if found else None
    yield _share("dependent_share", "pairs farther apart without hubs", dependent, label)
    yield _number(
        "worst_hops_without", "worst hops without hubs", without.worst if without else None, label
    )
    yield _decimal(
        "mean_hops_without", "mean hops without hubs", without.mean if without else None, label
    )


def _narrow(report: Report) -> Iterator[Fact]:
    found = None if report.unknown("narrow") else report.narrow
    cut, capacity = (found.token_cut, found.capacity) if found else (None, None)
    label = "unknown" if cut is None else how(cut.method)
    is_sure = cut is not None and cut.at_least == cut.at_most
    value = cut.at_most if cut is not None and is_sure else None
    yield _number("token_cut", "token cut of a farthest pair", value, label)
    is_sure = capacity is not None and capacity.at_least == capacity.at_most
    label = "unknown" if capacity is None else how(Method(capacity.method.engine, is_sure))
    least = capacity.at_least if capacity is not None else None
    yield _number("capacity", "states that carry far information", least, label)
    yield _decimal("squeeze", "squeeze", found.squeeze if found else None, label)


def _cost(report: Report) -> Iterator[Fact]:
    found = None if report.unknown("cost") else report.cost
    cache, tiles = (found.cache, found.tiles) if found else (None, None)
    label = "unknown"
    if cache is not None:
        label = how(cache.method)
    elif found:
        label = "exact, only causal patterns have one"
    yield _number("kv_cache", "key-value cache, keys", cache.keys if cache else None, label)
    label = "unknown" if tiles is None else how(tiles.method)
    yield _number("tiles", "tiles touched", tiles.touched if tiles else None, label)
    yield _share(
        "tile_waste", "more pairs in tiles than read", tiles.waste if tiles else None, label
    )
    orders = "; ".join(found.complexity) if found else None
    bound = "upper bound, text of the pattern"
    yield Fact("complexity", "complexity", orders, orders or _NOTHING, bound)
    codes = " ".join(one.code for one in report.warnings)
    yield Fact("warnings", "warnings", codes, codes or "none", "from the figures above")
