"""What `attnloom list` knows of each bundled pattern, found by the analysis and kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnloom.compiler.analysis.spelling import share

if TYPE_CHECKING:
    from attnloom.compiler.analysis.report import Report

FILE = Path(__file__).with_name("facts.json")


@dataclass(frozen=True)
class Facts:
    """What a pattern costs and how far apart it leaves tokens, at a length.

    `cost` is the order of the pairs for each kind of layer, `density` the share of pairs that are
    read. `hops` is the number of layers after which every intended pair has met, `None` if some
    never do; it is exact if `is_exact`, and the most that was seen if not.
    """

    n: int
    heads: int
    layers: int | None
    cost: tuple[str, ...]
    density: float
    hops: int | None
    is_exact: bool

    @classmethod
    def of(cls, report: Report) -> Facts:
        """The facts of a report."""
        stack, hops = report.stack, report.hops
        met: int | None = hops.worst if hops.unreachable == 0 else None
        if stack.is_counted and met is not None:
            met = report.coverage.full_layer
        return cls(
            n=stack.tokens,
            heads=stack.heads,
            layers=stack.layers if stack.is_counted else None,
            cost=tuple(dict.fromkeys(report.cost.complexity)),
            density=report.work.density,
            hops=met,
            is_exact=hops.method.is_exact,
        )

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Facts:
        return cls(**{**kept, "cost": tuple(kept["cost"])})

    @property
    def cost_words(self) -> str:
        return ", ".join(self.cost)

    @property
    def reads_words(self) -> str:
        return share(self.density)

    @property
    def hops_words(self) -> str:
        """The hops, or that not all pairs meet.

        >>> facts("longformer").hops_words, facts("gemma3").hops_words, facts("swin").hops_words
        ('2', '6', 'not all')
        """
        if self.hops is None:
            return "not all"
        return f"{self.hops:,}" if self.is_exact else f"{self.hops:,} or more"


def facts(name: str) -> Facts:
    """The facts of a bundled pattern.

    >>> facts("longformer").n, facts("longformer").cost_words
    (16384, 'O(n*reach + count(cls)*n)')
    """
    return _kept()[name]


def write(found: Mapping[str, Facts]) -> None:
    """Keep the facts of some patterns beside those of the others."""
    every = {**_kept(), **found}
    text = json.dumps({name: asdict(every[name]) for name in sorted(every)}, indent=1)
    FILE.write_text(text + "\n", encoding="utf-8")
    _kept.cache_clear()


@cache
def _kept() -> dict[str, Facts]:
    if not FILE.exists():
        return {}
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: Facts.read(one) for name, one in kept.items()}
