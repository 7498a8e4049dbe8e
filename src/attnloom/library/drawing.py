"""Pictures of small scenes as SVG: every pair a square, one panel for each mask that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.library.scenes import Scene
from attnloom.pattern import Pattern

_MOST_PANELS = 4
_SIDE = 256
_GAP = 24
_TOP = 22
_READ, _NOT_READ, _MEMORY, _TEXT = "#1f5a99", "#eef2f7", "#d9822b", "#57606a"


@dataclass(frozen=True)
class Panel:
    """A mask, and the heads and layers that have it."""

    mask: NDArray[np.bool_]
    memory: int
    caption: str


def panels(pattern: Pattern, scene: Scene) -> list[Panel]:
    """The different masks of a scene, by layers and then by heads, the first few of them.

    >>> from attnloom.library.scenes import scenes
    >>> small = scenes("gemma3").small
    >>> [one.caption for one in panels(small.pattern("gemma3"), small)]
    ['layers 0, 1, 2, 3, 4', 'layer 5']
    """
    by_layer, by_head = depends_on_layer(pattern._typed), depends_on_head(pattern._typed)
    layers = range(scene.layers or 1) if by_layer else range(1)
    heads = range(scene.heads) if by_head else range(1)
    found: dict[bytes, tuple[NDArray[np.bool_], int, list[tuple[int, int]]]] = {}
    for layer in layers:
        for head in heads:
            where = {"head": head, "heads": scene.heads}
            where |= {"layer": layer, "layers": scene.layers or 1}
            mask = pattern.mask(scene.n, inputs=scene.inputs, **where)
            entry = found.setdefault(mask.tobytes(), (mask, len(mask) - scene.n, []))
            entry[2].append((layer, head))
    several = (len(layers) > 1, len(heads) > 1)
    return [
        Panel(mask, memory, _caption(places, several))
        for mask, memory, places in list(found.values())[:_MOST_PANELS]
    ]


def _caption(places: Sequence[tuple[int, int]], several: tuple[bool, bool]) -> str:
    parts = []
    for axis, word in enumerate(("layer", "head")):
        if several[axis]:
            numbers = sorted({place[axis] for place in places})
            parts.append(f"{word}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}")
    return "; ".join(parts)


def svg(shown: Sequence[Panel], title: str) -> str:
    """The panels side by side: query down, key across; memory tokens are set off by a line."""
    side = _SIDE * 5 // 4 if len(shown) == 1 else _SIDE
    top = _TOP if any(one.caption for one in shown) else 0
    width = len(shown) * side + (len(shown) - 1) * _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width + 2} {top + side + 2}"'
        f' width="{width + 2}" height="{top + side + 2}" role="img">',
        f"<title>{title}</title>",
    ]
    for number, one in enumerate(shown):
        left = number * (side + _GAP)
        if one.caption:
            lines.append(
                f'<text x="{left}" y="14" font-family="sans-serif" font-size="13"'
                f' fill="{_TEXT}">{one.caption}</text>'
            )
        lines.append(_panel(one, left, top, side))
    return "\n".join([*lines, "</svg>", ""])


def _panel(one: Panel, left: int, top: int, side: int) -> str:
    length = len(one.mask)
    parts = [
        f'<g transform="translate({left} {top}) scale({side / length:.5g})"'
        ' shape-rendering="crispEdges">',
        f'<rect width="{length}" height="{length}" fill="{_NOT_READ}"/>',
        f'<path fill="{_READ}" d="{_path(one.mask)}"/>',
    ]
    if one.memory:
        parts.append(
            f'<path stroke="{_MEMORY}" stroke-width="{length / side:.3g}" fill="none"'
            f' d="M{one.memory} 0v{length}M0 {one.memory}h{length}"/>'
        )
    return "".join([*parts, "</g>"])


def _path(mask: NDArray[np.bool_]) -> str:
    """Each run of keys as a rectangle; rows that are alike, as one.

    >>> _path(np.array([[1, 0], [1, 1]], dtype=bool))
    'M0 0h1v1h-1zM0 1h2v1h-2z'
    >>> _path(np.ones((3, 3), dtype=bool))
    'M0 0h3v3h-3z'
    """
    parts = []
    changes = np.flatnonzero((mask[1:] != mask[:-1]).any(1)) + 1
    starts = [0, *changes.tolist(), len(mask)]
    for first, stop in pairwise(starts):
        steps = np.flatnonzero(np.diff(mask[first].astype(np.int8), prepend=0, append=0)).tolist()
        for a, b in zip(steps[::2], steps[1::2], strict=True):
            parts.append(f"M{a} {first}h{b - a}v{stop - first}h-{b - a}z")
    return "".join(parts)
