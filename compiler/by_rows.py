"""All rows of a region, so many at once that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from attnloom.compiler.limits import MAX_DENSE, TooLarge
from attnloom.compiler.regions import Condition, Region
from attnloom.compiler.runs import Ints, Runs

_FIRST_ROWS, _MOST_ROWS = 1 << 8, 1 << 16
"""Rows that are asked at once, first and at most."""

_RANGES_AT_ONCE = 1 << 20
"""Ranges that they should have together."""

_MOST_ASKED = 4 * MAX_DENSE
"""Pairs for which a condition is asked one by one, over all rows."""


def by_rows(region: Region, start: int, stop: int) -> Iterator[tuple[Ints, Runs]]:
    """Rows between `start` and `stop`, ascending, and what each reads.

    Raises:
        TooLarge: a single row is beyond the limits, or a condition must be asked too often.
    """
    is_opaque = any(isinstance(leaf, Condition) for leaf in region.leaves())
    if is_opaque and (stop - start) ** 2 > _MOST_ASKED:
        raise TooLarge(f"the condition would be asked for more than {_MOST_ASKED:,} pairs")
    step = _FIRST_ROWS
    while start < stop:
        rows = np.arange(start, min(start + step, stop), dtype=np.int64)
        try:
            found = region.runs(rows)
        except TooLarge:
            if len(rows) == 1:
                raise
            step = len(rows) // 2
            continue
        yield rows, found
        start += len(rows)
        each = len(found.starts) // len(rows) + 1
        step = max(1, min(_MOST_ROWS, _RANGES_AT_ONCE // each))
