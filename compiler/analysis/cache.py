"""The key-value cache: how many keys a causal decoder must keep.

While token `t` is decoded, a key `j <= t` is *live* when `t` or a later token reads it; all others
may be forgotten. So the live keys are those of "some query that is not before `t` reads `j`", which
is a composition:

>>> reads = Zones.zone(0, 10**6, d=(0, 1023)) | (Zones.zone(0, 10**6, d=(0, 10**6), j=(0, 3)))
>>> live_keys(reads).max_row_count()[0]  # a window of 1,024 and four sinks before it
1028
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.figures import Method
from attnloom.compiler.analysis.grain import Grain
from attnloom.compiler.analysis.stack import Layer, Stack
from attnloom.compiler.zones import TooComplex, Zones


@dataclass(frozen=True)
class Cache:
    """The most keys that are live at once: in one head of one layer, and where.

    `all_layers` adds up the layers that were asked for, one head of each, the one that keeps most.
    """

    keys: int
    at: int
    all_layers: int
    per_kind: tuple[int, ...]
    method: Method


def live_keys(reads: Zones) -> Zones:
    """The pairs of a token that is decoded and a key that is then live."""
    size = reads.stop - reads.start
    not_before = Zones.zone(reads.start, reads.stop, d=(-size, 0))
    return (not_before @ reads) & Zones.zone(reads.start, reads.stop, d=(0, size))


def cache(stack: Stack) -> Cache:
    """The cache that a causal stack needs.

    Raises:
        TooLarge: it has no closed form and the sequence is too long to search.
    """
    found = [max(_most_live(head) for head in kind.apart) for kind in stack.kinds]
    keys, at = max(found)
    engine = "zones" if stack.has_zones else "rows"
    total = sum(found[kind][0] for kind in stack.order)
    return Cache(keys, -at, total, tuple(most for most, _ in found), Method(engine))


def _most_live(head: Layer) -> tuple[int, int]:
    """The most live keys, and minus the position, so that the largest of all comes first."""
    if head.has_zones:
        try:
            most, at = live_keys(head.zones).max_row_count()
            return most, -at
        except TooComplex:
            pass
    most, at = _most_live_of_rows(head.tokens)
    return most, -at


def _most_live_of_rows(grain: Grain) -> tuple[int, int]:
    """The same from who reads each key last."""
    readers = grain.read_by
    is_read = np.flatnonzero(np.diff(readers.offsets))
    last = readers.stops[readers.offsets[1:][is_read] - 1] - 1
    since = is_read[last >= is_read]
    change = np.bincount(since, minlength=grain.length + 1)
    change -= np.bincount(last[last >= is_read] + 1, minlength=grain.length + 1)
    live = np.cumsum(change)[:-1]
    at = int(live.argmax())
    return int(live[at]), at + grain.start
