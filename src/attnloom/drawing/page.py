"""A report as one HTML page: no script, nothing to load, light or dark as the reader has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from attnloom.compiler.analysis.as_text import CAVEAT, as_text
from attnloom.compiler.analysis.facts import Fact, facts
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spelling import how
from attnloom.drawing.arrivals import arrival_plot
from attnloom.drawing.drawing import Drawing
from attnloom.drawing.plots import (
    arc_plot,
    close_plot,
    coverage_plot,
    cut_plot,
    growth_plot,
    hop_plot,
    hub_plot,
    mask_plot,
)
from attnloom.drawing.style import PAGE_STYLE
from attnloom.drawing.svg import STYLE, short

_TILES = (
    "reads", "density", "worst_hops", "mean_hops", "full_coverage_layer", "hub_load", "token_cut",
    "kv_cache",
)  # fmt: skip
"""The facts that stand large at the top, those of them that are known."""

_CARDS: tuple[tuple[str, str, Callable[[Report], Drawing | None]], ...] = (
    ("Who reads whom", "Darker is denser; the colour says which rule made the pairs.", mask_plot),
    ("Close up", "The first positions, where single reads can be told apart.", close_plot),
    ("Every read", "An arc goes from a key to the query that reads it.", arc_plot),
    ("Hops", "How many reads lie between the intended pairs.", hop_plot),
    ("Receptive field", "What a token knows of after each layer.", growth_plot),
    ("Coverage", "What is connected after each layer; kinds of layers by colour.", coverage_plot),
    (
        "Arrival",
        "After which layer a query knows of a source: the darker, the later.",
        arrival_plot,
    ),
    ("Hubs", "Who carries the traffic between tokens that do not read each other.", hub_plot),
    ("Cut profile", "How much crosses each place of the sequence.", cut_plot),
)


def page(report: Report) -> str:
    """The whole page."""
    lines = list(as_text(report))
    title = f"{report.stack.name} at {report.stack.tokens:,} tokens"
    found = {one.name: one for one in facts(report)}
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{PAGE_STYLE}{STYLE}</style></head><body><main>",
        _header(report, [line.text for line in lines if not line.label]),
        _tiles(found),
        _notes(report),
        '<div class="cards">',
        *_cards(report),
        _route(report),
        _table(found),
        _source(report, "\n".join(map(str, lines))),
        "</div>",
        f"<footer>{escape(CAVEAT)} Made by attnloom.</footer></main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _header(report: Report, lines: list[str]) -> str:
    first, *rules = lines[: next((n for n, one in enumerate(lines) if "warn" in one), len(lines))]
    name, _, what = first.partition(", ")
    listed = "".join(f"<li>{escape(rule[2:])}</li>" for rule in rules)
    return (
        f'<header><h1>{escape(name)}</h1><p class="lead">{escape(what)}</p>'
        f'<ul class="rules">{listed}</ul></header>'
    )


def _tiles(found: dict[str, Fact]) -> str:
    chosen = [found[name] for name in _TILES if found[name].value is not None]
    tiles = "".join(
        f'<div class="tile"><span>{escape(one.title)}</span>'
        f'<b title="{escape(one.text)}">{escape(_large(one))}</b>'
        f'<span class="how">{escape(one.label)}</span></div>'
        for one in chosen
    )
    return f'<section class="tiles">{tiles}</section>'


def _large(fact: Fact) -> str:
    """A number that fits a tile: all digits up to a million."""
    is_large = isinstance(fact.value, int) and fact.value >= 10**6
    return short(float(fact.value or 0)) if is_large else fact.text


def _notes(report: Report) -> str:
    if not report.warnings:
        return ""
    listed = "".join(
        f"<li{_kind(one.is_note)}><code>{one.code}</code><span>{escape(one.message)}</span>"
        f'<span class="how">{escape(how(one.method))}</span></li>'
        for one in report.warnings
    )
    return f'<ul class="notes">{listed}</ul>'


def _kind(is_note: bool) -> str:
    return ' class="note"' if is_note else ""


def _cards(report: Report) -> Iterator[str]:
    for title, words, plot in _CARDS:
        drawn = plot(report)
        if drawn is not None:
            yield (
                f'<section class="card"><div class="head"><h2>{title}</h2>'
                f'<span class="how">{escape(drawn.label)}</span></div>'
                f"<p>{words}</p>{drawn.svg}</section>"
            )


def _route(report: Report) -> str:
    """The route, stop by stop."""
    pair, stack = report.pair, report.stack
    if pair is None or report.unknown("route") or not report.is_route_listed:
        return ""
    route = report.route
    ends = f"{stack.name_of(pair.source)} to {stack.name_of(pair.target)}"
    if route is None:
        body = "<p>There is none.</p>"
    else:
        stops = [f'<span class="stop">{stack.name_of(pair.source)}</span>']
        for read in route.reads:
            where = "" if read.layer is None else f" in layer {read.layer}"
            stops.append(f'<span class="by">{escape(read.rule.name)}{where} →</span>')
            stops.append(f'<span class="stop">{stack.name_of(read.target)}</span>')
        body = f'<div class="route">{"".join(stops)}</div>'
    hops = "" if route is None else f", {route.hops} hop{'' if route.hops == 1 else 's'}"
    return (
        f'<section class="card wide"><div class="head"><h2>A shortest route, {ends}{hops}</h2>'
        f'<span class="how">exact, walk</span></div>{body}</section>'
    )


def _table(found: dict[str, Fact]) -> str:
    rows = "".join(
        f'<tr><td>{escape(one.title)}</td><td class="value">{escape(one.text)}</td>'
        f'<td class="how">{escape(one.label)}</td></tr>'
        for one in found.values()
    )
    return (
        '<section class="card wide"><div class="head"><h2>All figures</h2></div>'
        f"<table><tbody>{rows}</tbody></table></section>"
    )


def _source(report: Report, text: str) -> str:
    source = report.subject.pattern.place.source.text.strip()
    return (
        '<section class="card wide"><div class="head"><h2>The pattern</h2></div>'
        f"<pre>{escape(source)}</pre>"
        "<details><summary>The report as text</summary>"
        f"<pre>{escape(text)}</pre></details></section>"
    )
