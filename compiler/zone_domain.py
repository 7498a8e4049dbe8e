"""The domain of a relation: bounds as a caller gives them, made into boxes that lie within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from attnloom.compiler.places import UNITS, Places, converted, is_chain
from attnloom.compiler.zone_arrays import MAX_POSITION, Ints, TooComplex, met, tightened

Range = tuple[int, int] | None
"""First and last value, inclusive; `None` for all values."""


@dataclass(frozen=True)
class Bounds:
    """A zone of one digit, as given: it may reach beyond the values that the digit takes."""

    i: Range = None
    j: Range = None
    d: Range = None


def check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def check_domain(start: int, stop: int) -> None:
    check(start <= stop, f"the domain {start}..{stop} runs backwards")
    if max(-start, stop) > MAX_POSITION:
        raise TooComplex(f"positions beyond {MAX_POSITION:,}")


def check_places(places: Places) -> None:
    check(is_chain(places), f"places must ascend from 1, each dividing the next, got {places}")
    if places[-1] > MAX_POSITION:
        raise TooComplex(f"a place beyond {MAX_POSITION:,}")


def box_caps(start: int, stop: int, places: Places, boxes: Sequence[Sequence[Bounds]]) -> Ints:
    """The caps of boxes given by hand, less those that are empty, all within the domain."""
    check_domain(start, stop)
    check_places(places)
    if start == stop or not boxes:
        return np.empty((0, len(places), 6), dtype=np.int64)
    sizes = [above // place for place, above in pairwise(places)]
    limits = [(0, size - 1) for size in sizes] + [(start // places[-1], (stop - 1) // places[-1])]
    listed = [
        [zone_caps(zone, low, high) for zone, (low, high) in zip(box, limits, strict=True)]
        for box in boxes
    ]
    return clipped(tightened(np.array(listed, dtype=np.int64)), places, start, stop)


def zone_caps(zone: Bounds, low: int, high: int) -> list[int]:
    """The caps of a zone of one digit that takes the values low..high, inclusive."""
    i, j = _within(zone.i, low, high), _within(zone.j, low, high)
    d = _within(zone.d, low - high, high - low)
    return [-i[0], i[1], -j[0], j[1], -d[0], d[1]]


def _within(given: Range, low: int, high: int) -> tuple[int, int]:
    """The values of a range within low..high; a range that misses it stays empty, but near."""
    first, last = given if given is not None else (low, high)
    if max(first, low) > min(last, high):
        return high + 1, high
    return max(first, low), min(last, high)


def clipped(caps: Ints, places: Places, start: int, stop: int) -> Ints:
    """The boxes within the domain; the very same array when none reaches beyond."""
    reach = (caps[..., :4] * np.array(places)[:, None]).sum(1).max(0, initial=-MAX_POSITION)
    if max(reach[0], reach[2]) <= -start and max(reach[1], reach[3]) < stop:
        return caps
    return met(caps, domain_caps(start, stop, places))


@lru_cache(maxsize=64)
def domain_caps(start: int, stop: int, places: Places) -> Ints:
    """The square of the domain as boxes."""
    caps = np.empty((int(start < stop), 1, 6), dtype=np.int64)
    caps[:] = zone_caps(Bounds(), start, stop - 1)
    caps = converted(caps, UNITS, places)
    caps.flags.writeable = False
    return caps
