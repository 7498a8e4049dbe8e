"""`same` and `links`: relations that are given at run time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.primitives.base import Bools, Form, Kind, Primitive, of_kind
from attnloom.compiler.regions import Links as LinksRegion
from attnloom.compiler.regions import Region
from attnloom.compiler.regions import Same as SameRegion
from attnloom.compiler.runs import Ints


@dataclass(frozen=True, eq=False, kw_only=True)
class Same(Primitive):
    """The keys that carry the query's id in a segments input."""

    name = "same"
    forms = (
        Form(
            "same(SEG)", "i and j carry the same id in the input SEG", ("segments",), positional=1
        ),
    )  # fmt: skip

    segments: Ints = of_kind(Kind.SEGMENTS)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray(self.segments[i] == self.segments[j])

    def region(self, length: int) -> Region:
        return SameRegion.of(self.segments)

    def describe(self, length: int) -> str:
        count = len(np.unique(self.segments))
        return f"the same segment ({count:,} of them)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Links(Primitive):
    """The keys that a links input lists for each query."""

    name = "links"
    forms = (Form("links(L)", "the pairs of the links input L", ("lists",), positional=1),)

    lists: tuple[Ints, Ints] = of_kind(Kind.LINKS)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        offsets, keys = self.lists
        pairs = np.repeat(np.arange(length), np.diff(offsets)) * length + keys
        return np.isin(i * length + j, pairs)

    def region(self, length: int) -> Region:
        offsets, keys = self.lists
        return LinksRegion.of_rows(offsets, keys, length)

    def describe(self, length: int) -> str:
        return f"{len(self.lists[1]):,} links that are given"
