"""Cost: what a pattern asks of a machine, and how that grows."""

from __future__ import annotations

from dataclasses import dataclass

from attnloom.compiler.analysis.cache import Cache, cache
from attnloom.compiler.analysis.intended import is_causal
from attnloom.compiler.analysis.subject import Subject
from attnloom.compiler.analysis.tiles import Tiles, tiles
from attnloom.compiler.analysis.work import num_reads
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.problems import PatternError


@dataclass(frozen=True)
class Growth:
    """By which factor a number grows from half the length to the length."""

    tokens: int
    reads: float
    cache: float | None
    tiles: float | None


@dataclass(frozen=True)
class Cost:
    """What a stack costs.

    `complexity` has the order of the pairs for each kind of layer. `cache` is for causal patterns,
    `None` for others; `tiles` and `growth` are `None` where they cannot be counted.
    """

    complexity: tuple[str, ...]
    cache: Cache | None
    tiles: Tiles | None
    growth: Growth | None


def cost(subject: Subject, reads: int) -> Cost:
    """The cost of a subject that reads so many pairs, as its `work` says."""
    stack = subject.stack
    orders = tuple(
        subject.complexity(stack.layers_of(number)[0]) for number in range(len(stack.kinds))
    )
    keys, touched = _measured(subject, reads)
    return Cost(orders, keys, touched, _growth(subject, reads, keys, touched))


def _measured(subject: Subject, reads: int) -> tuple[Cache | None, Tiles | None]:
    stack = subject.stack
    keys = cache(stack) if is_causal(stack) else None
    try:
        return keys, tiles(stack, reads)
    except TooLarge:
        return keys, None


def _growth(
    subject: Subject, reads: int, keys: Cache | None, touched: Tiles | None
) -> Growth | None:
    """Against half the length, where that is quick: in closed form."""
    half = subject.at(subject.tokens // 2) if subject.tokens > 1 else None
    if half is None or not subject.stack.has_zones or not reads:
        return None
    try:
        fewer = num_reads(half.stack)
        less_cache, less_tiles = _measured(half, fewer)
    except (PatternError, TooLarge):
        return None
    return Growth(
        half.tokens,
        reads / fewer if fewer else 0.0,
        keys.keys / less_cache.keys if keys and less_cache and less_cache.keys else None,
        touched.touched / less_tiles.touched
        if touched and less_tiles and less_tiles.touched
        else None,
    )
