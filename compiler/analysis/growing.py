"""Growing sequences: a query that reads other keys once more tokens follow, if there is one."""

from __future__ import annotations

import numpy as np

from attnloom.compiler.bound import Bound
from attnloom.compiler.zones import TooComplex, Zones

_FEW = 2048
"""Positions up to which rows are compared one by one, which is then quicker than closed forms."""

_ROWS_AT_ONCE = 1 << 12
_MOST_SHOWN = 8


def longer(tokens: int) -> tuple[int, int, int]:
    """The lengths that a sequence is compared with: one token more, two, and twice as many."""
    return tokens + 1, tokens + 2, 2 * tokens


def change(short: Bound, long: Bound) -> str:
    """What is other for some query among more tokens, in words; empty if nothing is.

    >>> import attnloom
    >>> steady, last = (attnloom.parse(f"pattern p {{ only causal; {body} }}")
    ...                 for body in ("window(last=2)", "self; broadcast(last 2)"))
    >>> change(steady.bind(10**6), steady.bind(2 * 10**6))
    ''
    >>> change(last.bind(4), last.bind(5))
    'token 3 reads 2 to 3 among 4 tokens, and 3 among 5'
    """
    if short.memory != long.memory:
        return (
            f"there are {short.memory} memory tokens among {short.tokens} tokens, "
            f"and {long.memory} among {long.tokens}"
        )
    query = _changed(short, long)
    if query is None:
        return ""
    row = np.array([query], dtype=np.int64)
    name = str(query) if query >= 0 else f"m{query + short.memory}"
    return (
        f"token {name} reads {_keys(short.region.runs(row).row(0))} among {short.tokens} tokens, "
        f"and {_keys(long.region.runs(row).row(0))} among {long.tokens}"
    )


def _changed(short: Bound, long: Bound) -> int | None:
    """The first query that reads other keys among more tokens."""
    start, stop, end = -short.memory, short.tokens, long.tokens
    if stop - start > _FEW:
        try:
            before = short.region.zones(start, stop).restricted(start, end)
            queries = Zones.zone(start, end, i=(start, stop - 1))
            after = long.region.zones(start, end) & queries
            pair = ((before - after) | (after - before)).first_pair()
            return None if pair is None else pair[0]
        except TooComplex:
            pass
    for first in range(start, stop, _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, stop), dtype=np.int64)
        before_runs = short.region.runs(rows).clipped(start, stop)
        after_runs = long.region.runs(rows).clipped(start, end)
        for place, row in enumerate(rows.tolist()):
            if before_runs.row(place) != after_runs.row(place):
                return int(row)
    return None


def _keys(runs: list[tuple[int, int]]) -> str:
    """Ranges of keys in words.

    >>> _keys([(0, 1), (3, 6)]), _keys([])
    ('0, 3 to 5', 'nothing')
    """
    shown = [
        str(start) if stop == start + 1 else f"{start} to {stop - 1}"
        for start, stop in runs[:_MOST_SHOWN]
    ]
    return ", ".join(shown) + (", ..." if len(runs) > _MOST_SHOWN else "") or "nothing"
