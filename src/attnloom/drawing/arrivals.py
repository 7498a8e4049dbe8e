"""The plot of arrival: after which layer who knows of whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.analysis.arrival import Arrival, arrival
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spelling import how
from attnloom.drawing import svg
from attnloom.drawing.drawing import CELLS, WIDTH, Drawing

_EARLY, _LATE, _NEVER = (198, 216, 247), (24, 48, 108), (226, 112, 58)
"""Colours of the first and of the last layer, and of pairs that never meet."""

_SIZE, _LEFT, _TOP = 300.0, 52.0, 30.0
_MOST_MARKS = 8


def arrival_plot(report: Report) -> Drawing | None:
    """Query down and source across, darker the later; forbidden pairs are left blank."""
    found = arrival(report.stack, CELLS)
    if found is None or not found.last:
        return None
    stack = report.stack
    pixels, is_complete = _pixels(report, found)
    body = svg.rect(_LEFT, _TOP, _SIZE, _SIZE, "soft faint")
    body += svg.image(pixels, _LEFT, _TOP, _SIZE)
    body += svg.rect(_LEFT, _TOP, _SIZE, _SIZE, "axis")
    body += svg.text(_LEFT, _TOP - 10, "source →", "quiet small")
    body += svg.text(_LEFT, _TOP + _SIZE + 15, f"{stack.start:,}", "quiet small")
    body += svg.text(_LEFT + _SIZE, _TOP + _SIZE + 15, f"{stack.stop:,}", "quiet small", "end")
    body += (
        f'<text class="quiet small" text-anchor="end" '
        f'transform="translate({_LEFT - 10:.0f},{_TOP:.0f}) rotate(-90)">← query</text>'
    )
    marks = np.unique(np.linspace(1, found.last, min(found.last, _MOST_MARKS)).round()).astype(int)
    keys = [(f"after layer {layer}", _color(layer, found.last)) for layer in marks.tolist()]
    if not is_complete:
        never = "never" if found.followed is None else f"not within {found.followed} layers"
        keys.append((never, _NEVER))
    for number, (words, color) in enumerate(keys):
        x, y = _LEFT + _SIZE + 28, _TOP + 12 + 24 * number
        ink = "#" + "".join(f"{one:02x}" for one in color)
        body += f'<rect x="{x:g}" y="{y - 10:g}" width="12" height="12" rx="3" fill="{ink}"/>'
        body += svg.text(x + 20, y, words, "ink")
    title = f"{stack.name}: after which layer who knows of whom"
    return Drawing(svg.document(body, WIDTH, _TOP + _SIZE + 30, title=title), how(found.method))


def _color(layer: float, last: int) -> tuple[int, int, int]:
    at = (layer - 1) / max(last - 1, 1)
    red, green, blue = (round(a + (b - a) * at) for a, b in zip(_EARLY, _LATE, strict=True))
    return red, green, blue


def _pixels(report: Report, found: Arrival) -> tuple[NDArray[np.uint8], bool]:
    """Colours by layer, as opaque as many of a stretch come to know of the source.

    Returns:
        The picture, and whether all intended pairs that it shows meet.
    """
    pixels = np.zeros((*found.known.shape, 4))
    at = ((found.layers - 1) / max(found.last - 1, 1))[..., None]
    pixels[..., :3] = np.array(_EARLY) + at * (np.array(_LATE) - np.array(_EARLY))
    lengths = np.diff(found.edges)[:, None]
    pixels[..., 3] = 255 * np.sqrt(found.known / lengths)
    middle = (found.edges[:-1] + found.edges[1:]) // 2
    meant = report.intended.region.contains(middle[:, None], found.sources)
    missing = meant & (found.known == 0)
    pixels[missing] = (*_NEVER, 255)
    return pixels.round().astype(np.uint8), not missing.any()
