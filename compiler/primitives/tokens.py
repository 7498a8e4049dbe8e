"""`global`, `broadcast` and `collect`: token sets that everyone reads, or that read everyone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.primitives.base import Bools, Form, Kind, Primitive, of_kind
from attnloom.compiler.regions import Region, either, token_columns, token_rows
from attnloom.compiler.runs import Ints
from attnloom.compiler.tokens import TokenSet


@dataclass(frozen=True, eq=False, kw_only=True)
class Global(Primitive):
    """The tokens of a set read everything and are read by everything."""

    name = "global"
    forms = (Form("global(T)", "i in T or j in T", ("tokens",), positional=1),)

    tokens: TokenSet = of_kind(Kind.TOKENS)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray(self.tokens.contains(i) | self.tokens.contains(j))

    def region(self, length: int) -> Region:
        return either(token_rows(self.tokens), token_columns(self.tokens))

    def describe(self, length: int) -> str:
        return f"{self.tokens} reads all and is read by all"


@dataclass(frozen=True, eq=False, kw_only=True)
class Broadcast(Primitive):
    """The tokens of a set are read by everything."""

    name = "broadcast"
    forms = (Form("broadcast(T)", "j in T (read by all)", ("tokens",), positional=1),)

    tokens: TokenSet = of_kind(Kind.TOKENS)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray(self.tokens.contains(j) & (i == i))

    def region(self, length: int) -> Region:
        return token_columns(self.tokens)

    def describe(self, length: int) -> str:
        return f"{self.tokens} is read by all"

    def is_prefix(self, length: int) -> bool:
        starts, _ = self.tokens.runs
        return len(starts) == 0 or (len(starts) == 1 and starts[0] == 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Collect(Primitive):
    """The tokens of a set read everything."""

    name = "collect"
    forms = (Form("collect(T)", "i in T (reads all)", ("tokens",), positional=1),)

    tokens: TokenSet = of_kind(Kind.TOKENS)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray(self.tokens.contains(i) & (j == j))

    def region(self, length: int) -> Region:
        return token_rows(self.tokens)

    def describe(self, length: int) -> str:
        return f"{self.tokens} reads all"
