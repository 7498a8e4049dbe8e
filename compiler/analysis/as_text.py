"""A report as lines of text: what it is, how far it reaches, where it is narrow, what it costs.

Every line with a number says how it was found: `exact`, `sampled` and how far off it may be, or
`bounds`; and by which engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from attnloom.compiler.analysis.figures import Coverage, Hops, Method, Step
from attnloom.compiler.analysis.lanes import Runs
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spelling import decimal, how, ranges, share
from attnloom.compiler.analysis.spread import Spread
from attnloom.compiler.analysis.stack import Layer, Stack

Lines = Iterator[tuple[str, str]]
"""Texts, each with how its numbers were found."""

_BARS = 8
"""Bars of the hop histogram that fit a line."""

_LAYERS = 12
_STEPS = 12
_NAMES = 6

COLUMN = 84
"""Where the label of a line begins, if its text is not longer."""

CAVEAT = (
    "All of this is about the mask: what can influence what. What does is up to trained weights."
)


@dataclass(frozen=True)
class Line:
    """A line of a section; the first of a section carries its title. No label, no number in it."""

    title: str
    text: str
    label: str = ""

    def __str__(self) -> str:
        head = f"{self.title:<8} {self.text}"
        return f"{head:<{COLUMN}}  [{self.label}]" if self.label else head.rstrip()


def as_text(report: Report) -> Iterator[Line]:
    """The lines of a report, section by section, as they are worked out."""
    yield from _titled("Pattern", ((text, "") for text in _subject(report)))
    yield from _titled("Work", _work(report))
    yield from _titled("Reach", _reach(report))
    if report.pair is not None:
        yield from _titled("Route", _known(report, "route", _route))
    yield from _titled("Hubs", _known(report, "hubs", _hubs))
    yield from _titled("Narrow", _known(report, "narrow", _narrow))
    yield from _titled("Cost", _known(report, "cost", _cost))
    yield from _titled("Warn", _warnings(report))


def _known(report: Report, section: str, lines: Callable[[Report], Lines]) -> Lines:
    """The lines of a section, or why it is too much work."""
    why = report.unknown(section)
    if why is None:
        yield from lines(report)
    else:
        yield f"not known: {why}", "unknown"


def _titled(title: str, lines: Lines) -> Iterator[Line]:
    for text, label in lines:
        yield Line(title, text, label)
        title = ""


# --- what it is ----------------------------------------------------------------------------------


def _subject(report: Report) -> Iterator[str]:
    stack = report.stack
    memory = f" + {stack.memory} memory" if stack.memory else ""
    way = "causal" if report.intended.is_causal else "both directions"
    if report.intended.reads_ahead:
        way = "causal, but for what is read ahead"
    if report.intended.is_causal and report.intended.block > 1:
        way = f"causal by blocks of {report.intended.block:,}"
    parts = [f"{stack.name}, {stack.tokens:,} tokens{memory}", way]
    if stack.is_counted:
        parts.append(_plural(stack.layers, "layer"))
    if stack.heads > 1:
        parts.append(f"{stack.heads} heads")
    if report.intended.documents is not None:
        parts.append(_plural(int(report.intended.documents.max()) + 1, "document"))
    yield ", ".join(parts)
    removed = report.subject.removed
    if removed is not None:
        names = [str(stack.name_of(one)) for one in removed.positions(_NAMES)]
        yield f"  without {_list(names, len(removed))}"
    for number, kind in enumerate(stack.kinds):
        indent = "  "
        if not stack.is_uniform:
            yield f"  layer{'s' * (len(stack.layers_of(number)) > 1)} " + ranges(
                stack.layers_of(number)
            )
            indent = "    "
        yield from (indent + line for line in _statements(kind))


def _statements(kind: Layer) -> Iterator[str]:
    """What the statements mean; once for heads of which all say the same."""
    words: dict[tuple[str, ...], int] = {}
    for bound, heads in zip(kind.bounds, kind.shares, strict=True):
        said = tuple(bound.describe())
        words[said] = words.get(said, 0) + heads
    for said, heads in words.items():
        if len(words) > 1:
            yield f"{_plural(heads, 'head')}:"
        indent = "  " * (len(words) > 1)
        yield from (indent + line for line in said)


# --- work ----------------------------------------------------------------------------------------


def _work(report: Report) -> Lines:
    work, stack = report.work, report.stack
    method = work.kinds[0].method
    over = "" if work.layers == 1 else f" over {_plural(work.layers, 'layer')}"
    heads = "" if stack.heads == 1 else f" in {stack.heads} heads"
    yield (
        f"reads {work.reads:,} of {work.pairs:,} pairs{heads}{over} ({share(work.density)})",
        how(Method(method.engine)),
    )
    if work.per_query is not None:
        yield f"reads per token   {_spread(work.per_query)}", how(method)
    if work.per_key is not None:
        yield f"readers per token {_spread(work.per_key)}", how(method)
    if work.empty_row is not None:
        yield f"token {stack.name_of(work.empty_row.query)} reads nothing", how(method)


def _spread(spread: Spread) -> str:
    middle = "?" if spread.median is None else f"{spread.median:,}"
    return f"min {spread.least:,}, median {middle}, max {spread.most:,}"


# --- reach ---------------------------------------------------------------------------------------


def _reach(report: Report) -> Lines:
    hops, stack = report.hops, report.stack
    if not hops.total:
        yield "no pair of different tokens is meant to meet", how(hops.method)
        return
    yield _connected(hops, stack), how(hops.method)
    if hops.steps:
        yield f"hops   {bars(hops.steps)}", how(hops.method, _margin(hops.steps))
    if hops.worst is not None and hops.mean is not None:
        reads = "" if stack.is_uniform else "fewest reads: "
        yield reads + _distance(hops, stack), _label(hops)
    yield from _by_layer(report.coverage, stack)


def _connected(hops: Hops, stack: Stack) -> str:
    if hops.unreachable == 0:
        return f"every intended pair is connected ({hops.total:,} pairs)"
    if hops.unreachable is None and hops.unreachable_pair is None:
        return f"every intended pair that was looked at is connected (of {hops.total:,})"
    pairs = f"about {share(hops.unreachable_share)}"
    if hops.unreachable is not None:
        pairs = f"{hops.unreachable:,} ({share(hops.unreachable_share)})"
    pair = hops.unreachable_pair
    example = ""
    if pair is not None:
        example = f", e.g. {stack.name_of(pair.source)} -> {stack.name_of(pair.target)}"
    return f"unreachable: {pairs} of {hops.total:,} intended pairs{example}"


def _distance(hops: Hops, stack: Stack) -> str:
    worst = f"worst {hops.worst:,}"
    if hops.worst_at_most != hops.worst:
        most = "any number" if hops.worst_at_most is None else f"{hops.worst_at_most:,}"
        worst = f"worst seen {hops.worst:,}, certainly no more than {most}"
        if hops.worst_at_most is None:
            worst = f"worst seen {hops.worst:,}"
    if hops.worst_pair is not None:
        pair = hops.worst_pair
        worst += f" (e.g. {stack.name_of(pair.source)} -> {stack.name_of(pair.target)})"
    assert hops.mean is not None
    mean = f"mean {decimal(hops.mean)}"
    if hops.method.is_exact and hops.mean_low != hops.mean_high:
        mean = f"mean {decimal(hops.mean_low or 0)} to {decimal(hops.mean_high or 0)}"
    return f"{mean}, {worst}"


def bars(steps: tuple[Step, ...]) -> str:
    """The histogram in a line, neighbouring bars together where there are many.

    >>> bars((Step.exact(1, 1, 1, 4), Step.exact(2, 2, 3, 4)))
    '1: 25.0 %   2: 75.0 %'
    """
    size = -(-len(steps) // _BARS)
    parts = [steps[at : at + size] for at in range(0, len(steps), size)]
    found = []
    for part in parts:
        first, last = part[0].first, part[-1].last
        name = f"{first:,}" if first == last else f"{first:,}-{last:,}"
        found.append(f"{name}: {share(min(1.0, sum(step.share for step in part)))}")
    return "   ".join(found)


def _by_layer(coverage: Coverage, stack: Stack) -> Lines:
    margin = max(
        ((b - a) / 2 for a, b in zip(coverage.lows, coverage.highs, strict=True)), default=0.0
    )
    label = how(coverage.method, margin)
    until = coverage.full_layer or len(coverage.shares)
    yield f"connected by layer   {_first(map(share, coverage.shares[:until]))}", label
    medians = [one.median for one in coverage.fields[:until]]
    if medians and None not in medians:
        fields = _first([f"{one:,}" for one in medians])
        yield f"receptive field by layer, median token   {fields}", how(coverage.method)
    if coverage.full_layer is not None:
        yield f"full coverage after layer {coverage.full_layer:,}", how(coverage.method)
    elif stack.is_counted:
        yield f"no full coverage within {_plural(stack.layers, 'layer')}", how(coverage.method)


def _first(words: Iterable[str]) -> str:
    """The first of some words, and the last."""
    found = list(words)
    if len(found) <= _LAYERS:
        return "  ".join(found)
    return "  ".join([*found[: _LAYERS - 1], "...", found[-1]])


def _margin(steps: tuple[Step, ...]) -> float:
    return max((step.high - step.low) / 2 for step in steps)


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


# --- a route -------------------------------------------------------------------------------------


def _route(report: Report) -> Lines:
    pair, stack = report.pair, report.stack
    assert pair is not None
    ends = f"{stack.name_of(pair.source)} -> {stack.name_of(pair.target)}"
    if not report.is_route_listed:
        yield f"{ends}: {report.hops.worst:,} hops (--pair lists them)", how(report.hops.method)
        return
    route = report.route
    if route is None:
        inside = f" in {_plural(stack.layers, 'layer')}" if stack.is_counted else ""
        yield f"{ends}: there is no route{inside}", "exact, walk"
        return
    arrival = "" if route.arrival is None else f", arrives after layer {route.arrival} at best"
    yield f"{ends}: {_plural(route.hops, 'hop')}{arrival}", "exact, walk"
    if not route.reads:
        return
    words = [str(stack.name_of(pair.source))]
    for number, read in enumerate(route.reads):
        if _STEPS <= number < len(route.reads) - 2:
            if number == _STEPS:
                words.append(f"... {len(route.reads) - _STEPS - 2:,} more")
            continue
        layer = "" if read.layer is None else f" in layer {read.layer}"
        words.append(f"{_named(read.target, stack)} by {read.rule.name}{layer}")
    yield " -> ".join(words), "exact, walk"


def _named(position: int, stack: Stack) -> str:
    return str(stack.name_of(position))


# --- hubs ----------------------------------------------------------------------------------------


def _hubs(report: Report) -> Lines:
    stack, hubs, hops = report.stack, report.hubs, report.hops
    traffic = hubs.traffic
    names = [_named(one, stack) for one in hubs.positions[:_NAMES]]
    if hubs.count:
        yield f"{_plural(hubs.count, 'hub')}: {_list(names, hubs.count)}", "exact, pattern"
    else:
        yield "no token is made a hub by the pattern", "exact, pattern"
    if traffic is not None and hops.worst is not None and hops.worst > 1:
        top = traffic.loads[0] if traffic.loads else None
        if top is not None:
            few = traffic.loads[: 4 if traffic.loads[0].share > 0.001 else 1]
            each = ", ".join(f"{_named(one.token, stack)} ({share(one.share)})" for one in few)
            margin = (top.high - top.low) / 2
            yield f"share of the relayed traffic by token: {each}", how(traffic.method, margin)
        elif traffic.at_most is not None:
            most = share(traffic.at_most)
            yield f"no token carries more than {most} of the relayed traffic", how(traffic.method)
        else:
            yield f"relayed traffic is not known: {traffic.method.note}", "unknown"
        if traffic.fewest_routes is not None and traffic.fewest_share is not None:
            yield (
                f"{share(traffic.fewest_share)} of pairs have "
                f"{_plural(traffic.fewest_routes, 'two-hop route')}, the others more or none",
                how(traffic.method),
            )
    if hubs.relay_nothing:
        yield "they relay nothing that is not read directly", "exact, zones"
    if hubs.dependent_share is not None and hubs.without is not None and not hubs.relay_nothing:
        method = hubs.without.method
        yield (
            f"{share(hubs.dependent_share)} of pairs are farther apart without the hubs",
            f"exact, {method.engine}" if hubs.is_dependence_exact else how(method),
        )
    if hubs.without is not None:
        yield f"without hubs: {_apart(hubs.without)}", _label(hubs.without)
    if len(hubs.losses) > 1:
        for loss in hubs.losses:
            name = _named(loss.token, stack)
            yield f"without {name} alone: {_apart(loss.hops)}", _label(loss.hops)


def _apart(hops: Hops) -> str:
    """How far tokens are apart, shortly."""
    if hops.mean is None or hops.worst is None:
        return "nothing is connected" if hops.total else "no pair is left"
    sure = "worst" if hops.worst == hops.worst_at_most else "worst seen"
    lost = ""
    if hops.unreachable:
        lost = f", {hops.unreachable:,} pairs ({share(hops.unreachable_share)}) never meet"
    elif hops.unreachable is None and hops.unreachable_pair is not None:
        lost = f", about {share(hops.unreachable_share)} of pairs never meet"
    return f"mean {decimal(hops.mean)}, {sure} {hops.worst:,}{lost}"


def _label(hops: Hops) -> str:
    return how(hops.method, _half(hops.mean_low, hops.mean_high))


# --- narrow --------------------------------------------------------------------------------------


def _narrow(report: Report) -> Lines:
    narrow, stack = report.narrow, report.stack
    cut, capacity = narrow.token_cut, narrow.capacity
    if cut is not None:
        ends = f"{_runs(cut.ends.sources, stack)} -> {_runs(cut.ends.targets, stack)}"
        if cut.is_direct:
            text = f"token cut {ends}: none, they are read directly"
        elif cut.at_least == cut.at_most:
            some = _tokens(cut.tokens, stack)
            text = f"token cut {ends}: {cut.at_least:,}{some}"
        else:
            most = "any number" if cut.at_most is None else f"{cut.at_most:,}"
            text = f"token cut {ends}: {cut.at_least:,} to {most}"
        yield text, how(cut.method)
    if capacity is not None:
        ends = f"{_runs(capacity.ends.sources, stack)} -> {_runs(capacity.ends.targets, stack)}"
        exact = capacity.at_least == capacity.at_most
        value = f"{capacity.at_least:,}" + ("" if exact else f" to {capacity.at_most:,}")
        yield (
            f"states that carry {ends} in {_plural(capacity.layers, 'layer')}: {value}",
            how(Method(capacity.method.engine, exact)),
        )
        if narrow.squeeze is not None:
            yield (
                f"squeeze {decimal(narrow.squeeze)}: sources beyond direct reads for each such "
                "state",
                how(Method(capacity.method.engine, exact)),
            )
    if narrow.profile is not None and narrow.profile.places:
        places, forward = narrow.profile.places, narrow.profile.forward
        least = min(range(len(places)), key=lambda at: forward[at])
        middle = len(places) // 2
        yield (
            f"reads that cross forwards: {forward[middle]:,} at {places[middle]:,}, fewest "
            f"{forward[least]:,} at {places[least]:,} (of {len(places)} places)",
            "exact, profile",
        )
        if narrow.profile.states is not None:
            yield (
                f"token states that carry all reads across the middle: {narrow.profile.states:,}",
                "exact, profile",
            )
    if narrow.single_points is not None and narrow.pair is not None:
        pair = f"{_named(narrow.pair.source, stack)} -> {_named(narrow.pair.target, stack)}"
        names = [_named(one, stack) for one in narrow.single_points[:_NAMES]]
        found = _list(names, len(narrow.single_points)) if names else "none"
        yield f"tokens on every route {pair}: {found}", "exact, dominators"
    if narrow.spectral_gap is not None:
        yield f"spectral gap {decimal(narrow.spectral_gap)}", "exact, eigenvalues"


def _runs(runs: Runs, stack: Stack) -> str:
    """Ranges of tokens, as the language writes them.

    >>> _runs(((0, 5), (7, 8)), Stack("p", 9, 0, 1, (), (), False))
    '0..5, 7'
    """
    found = [
        _named(start, stack) if stop == start + 1 else f"{_named(start, stack)}..{stop}"
        for start, stop in runs[:_NAMES]
    ]
    return _list(found, len(runs))


def _tokens(tokens: tuple[int, ...], stack: Stack) -> str:
    if not tokens:
        return ""
    runs: list[list[int]] = []
    for token in tokens:
        if runs and runs[-1][1] == token:
            runs[-1][1] = token + 1
        else:
            runs.append([token, token + 1])
    return f" ({_runs(tuple((a, b) for a, b in runs), stack)})"


# --- cost ----------------------------------------------------------------------------------------


def _cost(report: Report) -> Lines:
    cost, stack = report.cost, report.stack
    for number, order in enumerate(cost.complexity):
        where = "" if stack.is_uniform else f" in layers {ranges(stack.layers_of(number))}"
        yield f"complexity {order}{where}", "upper bound, text of the pattern"
    keys, tiles, growth = cost.cache, cost.tiles, cost.growth
    if tiles is not None:
        yield (
            f"tiles of {tiles.size}: {tiles.touched:,} of {tiles.total:,} touched, "
            f"{share(tiles.waste)} more pairs than are read",
            how(tiles.method),
        )
    if keys is not None:
        every = f", {keys.all_layers:,} over all layers" if stack.is_counted else ""
        at = _named(keys.at, stack)
        yield f"key-value cache: {keys.keys:,} keys{every}, reached at {at}", how(keys.method)
    if growth is not None:
        factors = [("reads", growth.reads), ("cache", growth.cache), ("tiles", growth.tiles)]
        said = ", ".join(f"{name} x{factor:.3g}" for name, factor in factors if factor is not None)
        yield f"from {growth.tokens:,} tokens on: {said}", "exact, half the length"


def _warnings(report: Report) -> Lines:
    if not report.warnings:
        yield "nothing to warn of", ""
    for one in report.warnings:
        yield f"{one.code} {one.message}", how(one.method)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _list(names: list[str], count: int) -> str:
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return ", ".join(names) + more
