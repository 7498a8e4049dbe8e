"""A plot, and the measures that plots share."""

from __future__ import annotations

from dataclasses import dataclass

WIDTH, HEIGHT = 640, 320

CELLS = 256
"""Cells of a picture along each side."""


@dataclass(frozen=True)
class Drawing:
    """A plot, and how what it shows was found."""

    svg: str
    label: str
