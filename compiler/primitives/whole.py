"""`full`, `none`, `self` and `causal`: the relations without arguments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.primitives.base import Bools, Form, Primitive
from attnloom.compiler.regions import Band, Bands, Nothing, Region, square
from attnloom.compiler.runs import Ints


@dataclass(frozen=True, eq=False, kw_only=True)
class Full(Primitive):
    """Every query reads every key."""

    name = "full"
    forms = (Form("full", "all pairs"),)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray((i == i) & (j == j))

    def region(self, length: int) -> Region:
        return square(length)

    def describe(self, length: int) -> str:
        return "all pairs"


@dataclass(frozen=True, eq=False, kw_only=True)
class Empty(Primitive):
    """No query reads any key."""

    name = "none"
    forms = (Form("none", "no pair"),)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray((i != i) & (j != j))

    def region(self, length: int) -> Region:
        return Nothing()

    def describe(self, length: int) -> str:
        return "no pair"


@dataclass(frozen=True, eq=False, kw_only=True)
class Self(Primitive):
    """Every query reads itself."""

    name = "self"
    forms = (Form("self", "i = j"),)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray(i == j)

    def region(self, length: int) -> Region:
        return Bands.of(Band(d1=0, d2=0))

    def describe(self, length: int) -> str:
        return "itself (1 key)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Causal(Primitive):
    """Every query reads itself and all keys before it."""

    name = "causal"
    forms = (Form("causal", "j <= i"),)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray(j <= i)

    def region(self, length: int) -> Region:
        return Bands.of(Band(d1=0))

    def describe(self, length: int) -> str:
        return "[0, i] (up to itself)"

    def is_prefix(self, length: int) -> bool:
        return True
