"""`stride`, `chunks` and `offsets`: regular steps and distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.limits import MAX_PIECES, TooLarge
from attnloom.compiler.primitives.base import (
    BadArgument,
    Bools,
    Form,
    Kind,
    Primitive,
    number,
    of_kind,
)
from attnloom.compiler.regions import Band, Bands, Boxes, Region, square
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import Zones


@dataclass(frozen=True, eq=False, kw_only=True)
class Stride(Primitive):
    """The keys at a whole number of steps from the query."""

    name = "stride"
    forms = (Form("stride(s)", "(i-j) % s == 0", ("step",), positional=1),)

    step: int = number(least=1)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray((i - j) % self.step == 0)

    def region(self, length: int) -> Region:
        return Bands.of(Band(step=self.step))

    def describe(self, length: int) -> str:
        return f"itself and in steps of {self.step} from there, both ways"


@dataclass(frozen=True, eq=False, kw_only=True)
class Chunks(Primitive):
    """The keys of the same chunk."""

    name = "chunks"
    forms = (Form("chunks(size)", "i // size == j // size", ("size",), positional=1),)

    size: int = number(least=1)

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.asarray(i // self.size == j // self.size)

    def region(self, length: int) -> Region:
        if self.size >= length:
            return square(length)
        return Boxes(Zones.chunks(0, length, self.size))

    def describe(self, length: int) -> str:
        return f"the same chunk of {self.size}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Offsets(Primitive):
    """The keys at given distances, or at the powers of a base."""

    name = "offsets"
    forms = (
        Form(
            "offsets(base=2)", "abs(i-j) in {0, 1, base, base**2, ...}", ("base",)
        ),
        Form("offsets([0, 1, 64])", "abs(i-j) in the list", ("distances",), positional=1),
    )  # fmt: skip

    base: int | None = number(least=2, default=None)
    distances: tuple[int, ...] | None = of_kind(Kind.NUMBERS, None)

    def check(self) -> None:
        if self.distances is not None and min(self.distances, default=0) < 0:
            raise BadArgument(
                "distances",
                f"a distance must be at least 0, got {min(self.distances)}",
                f"`{-min(self.distances)}` counts both ways",
                expected="at least 0",
            )

    def _distances(self, length: int) -> list[int]:
        """The distances that occur in a sequence, ascending."""
        if self.distances is not None:
            return sorted({one for one in self.distances if one < length})
        assert self.base is not None
        found, power = [0], 1
        while power < length:
            found.append(power)
            power *= self.base
        return found

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        return np.isin(np.abs(i - j), self._distances(length))

    def region(self, length: int) -> Region:
        distances = self._distances(length)
        if len(distances) > MAX_PIECES:
            raise TooLarge(f"more than {MAX_PIECES:,} distances")
        return Bands.of(*(Band(d1=d, d2=d) for one in distances for d in (one, -one)))

    def describe(self, length: int) -> str:
        if self.distances is None:
            return f"distances 0 and the powers of {self.base}"
        shown = [str(one) for one in sorted(set(self.distances))]
        if len(shown) > 8:
            shown[7:] = [f"... {len(shown)} in all"]
        return f"distances {', '.join(shown)}"
