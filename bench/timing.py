"""Times of several candidates, taken in turns, so that what the machine does meanwhile hits all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Times:
    """The times of one candidate, in milliseconds."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Summed up, and rounded to a microsecond."""
        median, least, most = (
            round(1e3 * value, 3)
            for value in (statistics.median(seconds), min(seconds), max(seconds))
        )
        return cls(median, least, most, len(seconds))

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def in_turns(
    candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2
) -> dict[str, Times]:
    """Run each candidate once a round, each round from another one on."""
    names = list(candidates)
    for name in names:
        for _ in range(warm_up):
            candidates[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: Times.of(values) for name, values in seconds.items()}
