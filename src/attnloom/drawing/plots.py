"""The plots of a report, each one SVG; the numbers in them are those of the report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.analysis.facts import Fact
from attnloom.compiler.analysis.figures import Step
from attnloom.compiler.analysis.picture import Picture, picture, rules_of
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spelling import decimal, how, share
from attnloom.compiler.analysis.stack import Layer
from attnloom.drawing import svg
from attnloom.drawing.arrivals import arrival_plot
from attnloom.drawing.drawing import CELLS, HEIGHT, WIDTH, Drawing
from attnloom.drawing.svg import RULE_COLORS, Scale

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 34, 46

CLOSE = 64
"""Positions of the close picture."""

MOST_ARCS = 64
"""Tokens up to which every read is drawn as an arc."""

_MOST_BARS = 48


def write_plots(report: Report, folder: Path) -> list[Path]:
    """Write all plots that make sense for a report into a folder, and say which."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, plot in PLOTS.items():
        drawn = plot(report)
        if drawn is not None:
            path = folder / f"{name}.svg"
            path.write_text(svg.standalone(drawn.svg), encoding="utf-8")
            found.append(path)
    return found


def _x(low: float, high: float, *, is_whole: bool = False) -> Scale:
    return Scale(low, high, _LEFT, WIDTH - _RIGHT, is_whole)


def _y(high: float) -> Scale:
    return Scale(0, high, HEIGHT - _BOTTOM, _TOP)


def _axes(x: Scale, y: Scale, names: tuple[str, str], *, is_share: bool = False) -> str:
    across = svg.left(y, _LEFT, WIDTH - _RIGHT, names[1], is_share=is_share)
    return across + svg.bottom(x, HEIGHT - _BOTTOM, names[0])


def _document(body: str, title: str, label: str) -> Drawing:
    return Drawing(svg.document(body, WIDTH, HEIGHT, title=title), label)


# --- who reads whom ------------------------------------------------------------------------------


def mask_plot(report: Report) -> Drawing | None:
    """The whole square, coloured by rule."""
    stack = report.stack
    return _square(report, stack.start, stack.stop)


def close_plot(report: Report) -> Drawing | None:
    """A few positions from the middle, or the first ones, where the whole is too coarse to see."""
    stack = report.stack
    if stack.length <= 4 * CLOSE:
        return None
    size = min(stack.length, max(CLOSE, _typical(report)))
    return _square(report, stack.start, stack.start + size)


def _typical(report: Report) -> int:
    """Positions in which a token's reads show: some times their number."""
    spread = report.work.per_query
    reads = 16 if spread is None or spread.median is None else spread.median
    return min(4 * reads, report.stack.length // 4)


def _square(report: Report, start: int, stop: int) -> Drawing | None:
    """Pictures of each kind of layer, side by side, query down and key across."""
    stack = report.stack
    pictures = [picture(kind, CELLS, start, stop) for kind in stack.kinds[:2]]
    known = [one for one in pictures if one is not None]
    if not known:
        return None
    size, gap, top = 300.0, 40.0, 30.0
    names = list(dict.fromkeys(name for one in known for name in one.rules))
    colors = dict(zip(names, [*RULE_COLORS[: len(names) - 1], *RULE_COLORS[-1:]], strict=False))
    if len(names) <= len(RULE_COLORS):
        colors = dict(zip(names, RULE_COLORS, strict=False))
    body = ""
    first = (WIDTH - len(known) * size - (len(known) - 1) * gap) / 2 if len(known) > 1 else 52.0
    for number, one in enumerate(known):
        x = first + number * (size + gap)
        body += svg.rect(x, top, size, size, "soft faint")
        body += svg.image(_pixels(one, colors), x, top, size)
        body += svg.rect(x, top, size, size, "axis")
        layers = "" if stack.is_uniform else f"layers {_few(stack.layers_of(number))}; "
        body += svg.text(x, top - 10, f"{layers}key →", "quiet small")
        body += svg.text(x, top + size + 15, f"{start:,}", "quiet small")
        body += svg.text(x + size, top + size + 15, f"{stop:,}", "quiet small", "end")
        if number == 0:
            body += (
                f'<text class="quiet small" text-anchor="end" '
                f'transform="translate({x - 10:.0f},{top:.0f}) rotate(-90)">← query</text>'
            )
    height = top + size + 30
    shares = dict.fromkeys(names, 0.0)
    for one in known:
        for name, part in zip(one.rules, one.shares, strict=True):
            shares[name] = max(shares[name], float(part.mean()))
    beside = len(known) == 1
    for number, name in enumerate(names):
        x, y = (first + size + 28, top + 12 + 40 * number) if beside else (first, height + 20)
        words = name if len(name) <= 34 else name[:31] + "..."
        body += (
            f'<rect x="{x:g}" y="{y - 10:g}" width="12" height="12" rx="3" fill="{colors[name]}"/>'
        )
        body += svg.text(x + 20, y, words, "ink")
        body += svg.text(x + 20, y + 16, f"{share(shares[name])} of all pairs", "quiet small")
        height = height if beside else height + 38
    what = f"{stack.name}: who reads whom, positions {start:,} to {stop:,}"
    drawn = svg.document(body, WIDTH, max(height, top + 40 * len(names) + 20), title=what)
    return Drawing(drawn, "; ".join(dict.fromkeys(how(one.method) for one in known)))


def _few(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")


def _pixels(one: Picture, colors: Mapping[str, str]) -> NDArray[np.uint8]:
    """Colours by rule, as opaque as pairs are dense; what is not empty shows."""
    total = one.shares.sum(0)
    table = np.array([_rgb(colors[name]) for name in one.rules], dtype=np.float64)
    mixed = np.einsum("rij,rc->ijc", one.shares, table) / np.maximum(total, 1e-300)[..., None]
    ink = np.where(total > 0, 0.42 + 0.58 * np.sqrt(np.clip(total, 0, 1)), 0.0)
    pixels = np.concatenate([mixed, 255 * ink[..., None]], axis=-1)
    painted: NDArray[np.uint8] = pixels.round().astype(np.uint8)
    return painted


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def arc_plot(report: Report) -> Drawing | None:
    """Tokens on a line; an arc from each key to the query that reads it; hubs are raised."""
    stack = report.stack
    if stack.length > MOST_ARCS:
        return None
    kind = stack.kinds[0]
    hubs = set() if report.unknown("hubs") else set(report.hubs.positions)
    x = Scale(stack.start, max(stack.stop - 1, stack.start + 1), 30, WIDTH - 30)
    ground, raised = 250.0, 34.0
    body = ""
    marks, colors = _arcs(kind)
    for source, target, rule in marks:
        a, b = x(source), x(target)
        up = {True: raised, False: 0.0}
        ya, yb = ground - up[source in hubs], ground - up[target in hubs]
        high = min(ya, yb) - 8 - 0.33 * abs(b - a)
        words = f"{stack.name_of(target)} reads {stack.name_of(source)}: {rule}"
        body += (
            f'<path d="M{a:.1f},{ya:.1f} Q{(a + b) / 2:.1f},{2 * high - (ya + yb) / 2:.1f} '
            f'{b:.1f},{yb:.1f}" class="arc" stroke="{colors[rule]}">'
            f"<title>{escape(words)}</title></path>"
        )
    every = 1 if stack.length <= 24 else 4 if stack.length <= 48 else 8
    for position in range(stack.start, stack.stop):
        is_hub = position in hubs
        y = ground - raised if is_hub else ground
        name = str(stack.name_of(position))
        body += svg.dot(x(position), y, "dot2" if is_hub else "ink", name, 4.5 if is_hub else 3)
        if position % every == 0 or is_hub:
            body += svg.text(x(position), ground + 20, name, "quiet small", "middle")
    names = list(colors)
    for number, name in enumerate(names):
        place = 30 + number * (WIDTH - 60) / max(len(names), 1)
        words = name if len(name) <= 26 else name[:23] + "..."
        body += (
            f'<rect x="{place:g}" y="{ground + 32:g}" width="12" height="12" rx="3" '
            f'fill="{colors[name]}"/>'
        ) + svg.text(place + 18, ground + 42, words, "ink small")
    drawn = svg.document(body, WIDTH, ground + 58, title=f"{stack.name}: every read as an arc")
    return Drawing(drawn, "exact, rows")


def _arcs(kind: Layer) -> tuple[list[tuple[int, int, str]], dict[str, str]]:
    """All reads but those of itself, long ones first: key, query and rule; colours of the rules."""
    every = np.arange(kind.start, kind.stop, dtype=np.int64)
    rules = rules_of(kind)
    left = ~np.eye(len(every), dtype=np.bool_)
    found = []
    for name, region in rules.items():
        made = region.contains(every[:, None], every) & left
        left &= ~made
        found += [
            (int(j) + kind.start, int(i) + kind.start, name)
            for i, j in zip(*np.nonzero(made), strict=True)
        ]
    found.sort(key=lambda one: -abs(one[0] - one[1]))
    return found, dict(zip(rules, RULE_COLORS, strict=False))


# --- how far -------------------------------------------------------------------------------------


def hop_plot(report: Report) -> Drawing | None:
    """The share of intended pairs at every number of hops."""
    hops = report.hops
    if not hops.steps:
        return None
    bars = _binned(hops.steps)
    never = hops.unreachable_share
    most = max([*(one.share for one in bars), never])
    y = _y(most * 1.08)
    body = svg.left(y, _LEFT, WIDTH - _RIGHT, "share of intended pairs", is_share=True)
    count = len(bars) + (1 if never else 0)
    room = (WIDTH - _RIGHT - _LEFT) / count
    width = min(room * 0.82, 74)
    every = max(1, -(-count // (12 if len(bars) == len(hops.steps) else 8)))
    for number, one in enumerate(bars):
        middle = _LEFT + (number + 0.5) * room
        top = y(one.share)
        name = one.name.replace("-", " to ")
        pairs = "" if one.pairs is None else f" ({one.pairs:,} pairs)"
        tip = f"{name} hops: {share(one.share)}{pairs}"
        body += svg.rect(middle - width / 2, top, width, y(0) - top, "bar", tip, min(3, width / 4))
        if count <= 8:
            body += svg.text(middle, top - 6, share(one.share), "ink small", "middle")
            if one.high > one.low:
                body += svg.line(middle, y(one.low), middle, y(one.high), "axis")
        if number % every == 0:
            body += svg.text(middle, y(0) + 17, name, "quiet small", "middle")
    if never:
        middle = _LEFT + (count - 0.5) * room
        top = y(never)
        tip = f"never: {share(never)}"
        body += svg.rect(middle - width / 2, top, width, y(0) - top, "bar2", tip, min(3, width / 4))
        body += svg.text(middle, y(0) + 17, "never", "quiet small", "middle")
        body += svg.text(middle, top - 6, share(never), "ink small", "middle")
    body += svg.line(_LEFT, y(0), WIDTH - _RIGHT, y(0))
    body += svg.text((WIDTH + _LEFT - _RIGHT) / 2, y(0) + 34, "hops", "quiet", "middle")
    margin = max((one.high - one.low) / 2 for one in hops.steps)
    title = f"{report.stack.name}: how many hops apart pairs are"
    return _document(body, title, how(hops.method, margin))


def _binned(steps: Sequence[Step]) -> list[Step]:
    """Neighbouring bars together, so that they can be told apart."""
    size = -(-len(steps) // _MOST_BARS)
    found = []
    for at in range(0, len(steps), size):
        part = steps[at : at + size]
        pairs = [one.pairs for one in part]
        known = [one for one in pairs if one is not None]
        found.append(
            Step(
                part[0].first,
                part[-1].last,
                sum(one.share for one in part),
                sum(known) if len(known) == len(pairs) else None,
                min(1.0, sum(one.low for one in part)),
                min(1.0, sum(one.high for one in part)),
            )
        )
    return found


def growth_plot(report: Report) -> Drawing | None:
    """Receptive fields by layer: least, median and most; else the share that is connected."""
    coverage = report.coverage
    fields = [one for one in coverage.fields if one.median is not None]
    until = min(len(coverage.shares), (coverage.full_layer or len(coverage.shares)) + 2)
    layers = range(until + 1)
    x = _x(0, max(until, 1), is_whole=True)
    size = report.stack.length
    if len(fields) >= until:
        y = _y(size * 1.04)
        least = [1, *(one.least for one in fields[:until])]
        middle = [1, *(one.median or 0 for one in fields[:until])]
        most = [1, *(one.most for one in fields[:until])]
        points = [(x(at), y(one)) for at, one in zip(layers, middle, strict=True)]
        band = [(x(at), y(one)) for at, one in zip(layers, most, strict=True)]
        band += reversed([(x(at), y(one)) for at, one in zip(layers, least, strict=True)])
        body = _axes(x, y, ("layers", "tokens that a token knows of: least, median, most"))
        body += svg.area(band, "band")
        tips = [
            f"layer {at}: least {a:,}, median {b:,}, most {c:,}"
            for at, a, b, c in zip(layers, least, middle, most, strict=True)
        ]
    else:
        y = _y(1.04)
        shares = [0.0, *coverage.shares[:until]]
        points = [(x(at), y(one)) for at, one in zip(layers, shares, strict=True)]
        body = _axes(x, y, ("layers", "share of intended pairs that are connected"), is_share=True)
        tips = [f"layer {at}: {share(one)}" for at, one in zip(layers, shares, strict=True)]
    body += svg.curve(points)
    if len(points) <= _MOST_BARS:
        body += "".join(
            svg.dot(*point, "dot", tip) for point, tip in zip(points, tips, strict=True)
        )
    title = f"{report.stack.name}: what is known after each layer"
    return _document(body, title, how(coverage.method))


def coverage_plot(report: Report) -> Drawing | None:
    """The share of intended pairs that are connected after each layer, where layers differ."""
    shares = report.coverage.shares
    if report.stack.is_uniform or not shares:
        return None
    x, y = _x(0, len(shares), is_whole=True), _y(1.04)
    points = [(x(at), y(one)) for at, one in enumerate([0.0, *shares])]
    body = _axes(x, y, ("layers", "share of intended pairs that are connected"), is_share=True)
    body += svg.curve(points)
    for at, (kind, one) in enumerate(zip(report.stack.order, shares, strict=True), 1):
        tip = f"layer {at} (of kind {kind}): {share(one)}"
        body += svg.dot(x(at), y(one), "dot2" if kind else "dot", tip)
    title = f"{report.stack.name}: what is connected after each layer"
    return _document(body, title, how(report.coverage.method))


# --- where it is narrow --------------------------------------------------------------------------


def hub_plot(report: Report) -> Drawing | None:
    """The tokens that carry most of the relayed traffic, and what all others carry."""
    traffic = None if report.unknown("hubs") else report.hubs.traffic
    if traffic is None or not traffic.loads:
        return None
    loads = traffic.loads[:8]
    marks = [(str(report.stack.name_of(one.token)), one.share, one.low, one.high) for one in loads]
    if traffic.rest is not None and report.hops.worst == 2:
        rest = traffic.rest + sum(one.share for one in traffic.loads[8:])
        marks.append(("all others", rest, rest, rest))
    most = max(one[3] for one in marks)
    x = Scale(0, most * 1.12, 110, WIDTH - 70)
    step = min(40.0, (HEIGHT - _TOP - 20) / len(marks))
    body = svg.text(110, 18, "share of relayed traffic", "quiet")
    for number, (name, value, low, high) in enumerate(marks):
        y = _TOP + number * step
        kind = "soft" if name == "all others" else "bar"
        word = name if name == "all others" else f"token {name}"
        body += svg.text(102, y + step * 0.62, word, "ink", "end")
        body += svg.rect(110, y + 3, x(value) - 110, step - 8, kind, f"{word}: {share(value)}", 3)
        end = x(high) if high > low else x(value)
        if high > low:
            body += svg.line(x(low), y + step / 2, x(high), y + step / 2, "axis")
        body += svg.text(end + 8, y + step * 0.62, share(value), "ink small")
    height = _TOP + len(marks) * step + 14
    for words in _without(report):
        height += 22
        body += svg.text(110, height - 8, words, "quiet")
    drawn = svg.document(body, WIDTH, height + 6, title=f"{report.stack.name}: the busiest tokens")
    return Drawing(drawn, how(traffic.method))


def _without(report: Report) -> list[str]:
    """What becomes of the pattern without its hubs, in words."""
    hubs = report.hubs
    if hubs.without is None or hubs.without.mean is None:
        return []
    found = [f"without hubs: mean {decimal(hubs.without.mean)} hops, worst {hubs.without.worst:,}"]
    if hubs.dependent_share is not None:
        found.append(f"{share(hubs.dependent_share)} of pairs are farther apart without them")
    return found


def cut_plot(report: Report) -> Drawing | None:
    """How many reads cross each place of the sequence, forwards and backwards."""
    profile = None if report.unknown("narrow") else report.narrow.profile
    if profile is None or not profile.places:
        return None
    stack = report.stack
    x = _x(stack.start, stack.stop)
    y = _y(max(*profile.forward, *profile.backward, 1) * 1.08)
    body = _axes(x, y, ("place in the sequence", "reads that cross it"))
    lines = [("forwards", profile.forward, "curve", "dot")]
    if any(profile.backward):
        lines.append(("backwards", profile.backward, "curve curve2", "dot2"))
    forward = [(x(at), y(one)) for at, one in zip(profile.places, profile.forward, strict=True)]
    ends = [(forward[-1][0], y(0)), (forward[0][0], y(0))]
    body += svg.area([*forward, *ends], "band")
    for number, (name, counts, kind, mark) in enumerate(lines):
        points = [(x(at), y(one)) for at, one in zip(profile.places, counts, strict=True)]
        body += svg.curve(points, kind)
        for point, at, one in zip(points, profile.places, counts, strict=True):
            body += svg.dot(*point, mark, f"{name} over {at:,}: {one:,} reads", 2)
        place = WIDTH - _RIGHT - 170 + 90 * number
        body += svg.dot(place, 16, mark, radius=4) + svg.text(place + 9, 20, name, "quiet")
    return _document(body, f"{stack.name}: reads that cross each place", "exact, profile")


# --- sweeps --------------------------------------------------------------------------------------

_SWEPT = ("reads", "worst_hops", "mean_hops", "hub_load", "token_cut", "kv_cache")


def sweep_plot(name: str, points: Sequence[str], found: Sequence[Sequence[Fact]]) -> str:
    """Small plots of the main figures over the points of a sweep, as a file of its own."""
    chosen = [
        at
        for at, one in enumerate(found[0])
        if one.name in _SWEPT and all(each[at].is_number for each in found)
    ]
    width, height, columns = 320, 210, 2
    rows = -(-len(chosen) // columns)
    body = svg.text(24, 30, f"{name} over {_axis(points)}", "ink strong")
    points = [_short_name(point, points) for point in points]
    for number, at in enumerate(chosen):
        left, top = (number % columns) * width, 50 + (number // columns) * height
        values = [float(each[at].value or 0) for each in found]
        y = Scale(0, max(*values, 1e-12) * 1.1, top + height - 60, top + 24)
        x = Scale(-0.5, len(points) - 0.5, left + 58, left + width - 14)
        body += svg.left(y, left + 58, left + width - 14, found[0][at].title)
        marks = [(x(place), y(value)) for place, value in enumerate(values)]
        body += svg.line(left + 58, y(0), left + width - 14, y(0)) + svg.curve(marks)
        every = max(1, -(-len(points) // 4))
        for place, (mark, point, each) in enumerate(zip(marks, points, found, strict=True)):
            body += svg.dot(*mark, "dot", f"{point}: {each[at].text}")
            if place % every == 0:
                words = point if len(point) <= 16 else point[:13] + "..."
                body += svg.text(mark[0], y(0) + 17, words, "quiet small", "middle")
    drawn = svg.document(body, width * columns, 60 + rows * height, title=f"sweep of {name}")
    return svg.standalone(drawn)


def _axis(points: Sequence[str]) -> str:
    """What the points differ in.

    >>> _axis(["reach=1, n=4", "reach=2, n=4"])
    'reach, n'
    """
    return ", ".join(one.partition("=")[0] for one in re.split(r", (?=\w+=)", points[0]))


def _short_name(point: str, points: Sequence[str]) -> str:
    """A point without the name of the one thing that they differ in."""
    return point if ", " in _axis(points) else point.partition("=")[2]


PLOTS: Mapping[str, Callable[[Report], Drawing | None]] = {
    "mask": mask_plot,
    "mask_close": close_plot,
    "hops": hop_plot,
    "growth": growth_plot,
    "coverage": coverage_plot,
    "arrival": arrival_plot,
    "hubs": hub_plot,
    "cut": cut_plot,
    "arcs": arc_plot,
}
"""All plots by the names of their files; each is `None` where it makes no sense."""
