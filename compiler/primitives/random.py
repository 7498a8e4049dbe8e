"""`random` and `expander`: links drawn by a pure function of seed, layer, head and query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from attnloom.compiler import draws
from attnloom.compiler.limits import MAX_LINKS, TooLarge
from attnloom.compiler.primitives.base import (
    BadArgument,
    Bools,
    Context,
    Form,
    Kind,
    Primitive,
    flag,
    number,
    of_kind,
)
from attnloom.compiler.regions import Links, Region
from attnloom.compiler.runs import Ints, Runs

_SHARING = ("seed", "per_head", "per_layer")
_MOST_SEED = draws.MAX_SEED - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Random(Primitive):
    """Some distinct keys for each query, drawn at random; see `attnloom.compiler.draws`."""

    name = "random"
    is_drawn = True
    forms = (
        Form(
            "random(links=k, seed=s)", "k distinct keys per query, drawn at random",
            ("links",), ("outside", *_SHARING),
        ),
    )  # fmt: skip

    links: int = number(least=0)
    seed: int = number(least=0, most=_MOST_SEED, default=0)
    outside: Region | None = of_kind(Kind.RELATION, None)
    per_head: bool = flag(default=True)
    per_layer: bool = flag(default=False)
    head: int = of_kind(Kind.CONTEXT)
    layer: int = of_kind(Kind.CONTEXT)
    candidates: Callable[[], Runs | None] = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {
            **_counter(values, context, per_head=True, per_layer=False),
            "candidates": partial(context.candidates, values.get("outside")),
        }

    def content(self) -> tuple[object, ...]:
        """What decides the links, for a fingerprint."""
        return self.seed, self.layer, self.head, self.links, self.candidates()

    @cached_property
    def _drawn(self) -> dict[int, Links]:
        return {}

    def region(self, length: int) -> Links:
        if length not in self._drawn:
            offsets, keys = draws.links(
                self.seed, self.layer, self.head, self.links, length, self.candidates()
            )
            self._drawn[length] = Links(offsets, keys, length, 1, length)
        return self._drawn[length]

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return self.region(length).contains(i, j)

    def describe(self, length: int) -> str:
        drawn = f"{self.links} key{'s' * (self.links != 1)} drawn for each query"
        return f"{drawn} (seed {self.seed}, layer {self.layer}, head {self.head})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Expander(Primitive):
    """Random rings through all tokens: a random regular graph, an expander almost surely."""

    name = "expander"
    is_drawn = True
    forms = (
        Form(
            "expander(degree=d, seed=s)",
            "d even: the next and the previous token on each of d/2 random rings",
            ("degree",), _SHARING,
        ),
    )  # fmt: skip

    degree: int = number(least=0)
    seed: int = number(least=0, most=_MOST_SEED, default=0)
    per_head: bool = flag(default=True)
    per_layer: bool = flag(default=False)
    head: int = of_kind(Kind.CONTEXT)
    layer: int = of_kind(Kind.CONTEXT)

    @classmethod
    def from_context(cls, values: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return _counter(values, context, per_head=True, per_layer=False)

    def check(self) -> None:
        if self.degree % 2:
            raise BadArgument(
                "degree",
                f"`degree` must be even, two for each ring, got {self.degree}",
                f"`expander(degree={self.degree + 1})`",
                expected="an even number",
            )

    @cached_property
    def _rings(self) -> dict[int, list[Ints]]:
        return {}

    def _following(self, length: int) -> list[Ints]:
        """The token after each one, for every ring."""
        if length not in self._rings:
            if self.degree // 2 * length > MAX_LINKS:
                raise TooLarge(
                    f"{self.degree} links for each of {length:,} tokens are over {MAX_LINKS:,}"
                )
            self._rings[length] = [
                draws.cycle(self.seed, self.layer, self.head, number, length)
                for number in range(self.degree // 2)
            ]
        return self._rings[length]

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        found = np.zeros(np.broadcast_shapes(np.shape(i), np.shape(j)), dtype=np.bool_)
        for following in self._following(length):
            found |= (following[i] == j) | (following[j] == i)
        return found

    def region(self, length: int) -> Region:
        rings = self._following(length)
        tokens = np.arange(length, dtype=np.int64)
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *([tokens] * len(rings)), *rings])
        keys = np.concatenate([np.zeros(0, dtype=np.int64), *rings, *([tokens] * len(rings))])
        order = np.argsort(rows, kind="stable")
        offsets = np.searchsorted(rows[order], np.arange(length + 1)).astype(np.int64)
        return Links.of_rows(offsets, keys[order], length)

    def describe(self, length: int) -> str:
        rings = self.degree // 2
        drawn = f"both neighbours on {rings} random ring{'s' * (rings != 1)}"
        return f"{drawn} (seed {self.seed}, layer {self.layer}, head {self.head})"


def _counter(
    values: Mapping[str, Any], context: Context, *, per_head: bool, per_layer: bool
) -> dict[str, Any]:
    """The head and layer that enter the draw: 0 where they share it."""
    return {
        "head": context.head if values.get("per_head", per_head) else 0,
        "layer": context.layer if values.get("per_layer", per_layer) else 0,
    }
