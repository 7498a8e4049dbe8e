"""The few marks that plots are made of, as SVG text; colours come from the style sheet."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

RULE_COLORS = (
    "#3b6fd4", "#e2703a", "#2a9d78", "#b8539d", "#c99a16", "#5c5fa8", "#7f8c3f", "#8a8f98",
)  # fmt: skip
"""One for each rule of a pattern, in the order of its statements; the last for all others."""

STYLE = """
svg { font-family: ui-sans-serif, system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial,
  sans-serif; font-size: 12px; font-variant-numeric: tabular-nums; }
.ink { fill: var(--ink, #1c2330); } .quiet { fill: var(--quiet, #6a7383); }
.axis { stroke: var(--line, #d6dae1); stroke-width: 1; fill: none; }
.grid { stroke: var(--line, #d6dae1); stroke-width: 1; opacity: .55; }
.bar { fill: var(--accent, #3b6fd4); } .bar2 { fill: var(--accent2, #e2703a); }
.soft { fill: var(--soft, #c3cad6); } .band { fill: var(--accent, #3b6fd4); opacity: .16; }
.curve { stroke: var(--accent, #3b6fd4); stroke-width: 2.25; fill: none;
  stroke-linejoin: round; stroke-linecap: round; }
.curve2 { stroke: var(--accent2, #e2703a); } .dot { fill: var(--accent, #3b6fd4); }
.dot2 { fill: var(--accent2, #e2703a); } .arc { fill: none; stroke-width: 1.1; opacity: .62; }
.frame { fill: var(--paper, #ffffff); stroke: var(--line, #d6dae1); }
.small { font-size: 11px; } .strong { font-weight: 600; }
.faint { opacity: .12; }
"""


def document(body: str, width: float, height: float, *, title: str) -> str:
    """A whole SVG, with a title for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'role="img" aria-label="{attribute(title)}"><title>{escape(title)}</title>{body}</svg>'
    )


def standalone(svg: str) -> str:
    """An SVG as a file of its own, with the style sheet inside."""
    head, mark, rest = svg.partition("</title>")
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return f"{head}{mark}<style>{STYLE}</style>{ground}{rest}\n"


def attribute(text: str) -> str:
    return escape(text, {'"': "&quot;", "\n": " "})


def text(x: float, y: float, words: str, kind: str = "ink", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} class="{kind}">{escape(words)}</text>'


def rect(
    x: float, y: float, width: float, height: float, kind: str, tip: str = "", radius: float = 0
) -> str:
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    corner = f' rx="{radius:g}"' if radius else ""
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{max(height, 0):.2f}" '
        f'class="{kind}"{corner}>{inside}</rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def curve(points: Iterable[tuple[float, float]], kind: str = "curve") -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" class="{kind}"/>'


def area(points: Iterable[tuple[float, float]], kind: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{joined}" class="{kind}"/>'


def dot(x: float, y: float, kind: str = "dot", tip: str = "", radius: float = 3) -> str:
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}">{inside}</circle>'


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` onto places from `first` to `last`, perhaps whole numbers."""

    low: float
    high: float
    first: float
    last: float
    is_whole: bool = False

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.0
        return self.first + share * (self.last - self.first)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the scale.

        >>> Scale(0, 100, 0, 1).ticks(), Scale(0, 2, 0, 1, is_whole=True).ticks()
        ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.0, 1.0, 2.0])
        """
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        rough = max(span / count, 1.0 if self.is_whole else 0.0)
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * one for one in (1, 2, 5, 10) if unit * one >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def short(value: float) -> str:
    """A number for a tick.

    >>> short(1_048_576), short(65_536), short(12.0), short(0.05)
    ('1.05M', '65.5k', '12', '0.05')
    """
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def bottom(scale: Scale, y: float, name: str, *, as_text: Sequence[str] | None = None) -> str:
    """An axis below a plot."""
    found = line(scale.first, y, scale.last, y)
    words = as_text or [short(one) for one in scale.ticks()]
    for value, word in zip(scale.ticks(), words, strict=False):
        found += line(scale(value), y, scale(value), y + 4)
        found += text(scale(value), y + 17, word, "quiet small", "middle")
    return found + text((scale.first + scale.last) / 2, y + 34, name, "quiet", "middle")


def left(scale: Scale, x: float, right: float, name: str, *, is_share: bool = False) -> str:
    """An axis on the left of a plot, with lines across it; its name stands above."""
    found = ""
    for value in scale.ticks(4):
        y = scale(value)
        word = f"{100 * value:.3g} %" if is_share else short(value)
        found += line(x, y, right, y, "grid") + text(x - 7, y + 4, word, "quiet small", "end")
    return found + text(x, min(scale.first, scale.last) - 10, name, "quiet", "start")


def image(pixels: NDArray[np.uint8], x: float, y: float, size: float) -> str:
    """A picture inside an SVG, its pixels sharp.

    Shapes:
        pixels: `(height, width, 4)`, red, green, blue and how opaque
    """
    data = base64.b64encode(png(pixels)).decode("ascii")
    return (
        f'<image x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}" '
        f'style="image-rendering:pixelated" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{data}"/>'
    )


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of colours, `(height, width, 4)`.

    >>> png(np.zeros((1, 1, 4), dtype=np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 4 * width), dtype=np.uint8)  # each begins with its filter, none
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    packed = zlib.compress(rows.tobytes(), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )
