"""`window`: the keys within some distance, in any of the spellings that systems use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.limits import MAX_PIECES, TooLarge
from attnloom.compiler.primitives.base import BadArgument, Bools, Form, Primitive, flag, number
from attnloom.compiler.regions import Band, Bands, Region
from attnloom.compiler.runs import Ints

_OPTIONS = ("dilation", "wrap")


@dataclass(frozen=True, eq=False, kw_only=True)
class Window(Primitive):
    """The keys from `left` before the query to `right` after it, perhaps in steps, or on a ring."""

    name = "window"
    forms = (
        Form("window(each_side=r)", "abs(i-j) <= r: 2r+1 keys", ("each_side",), _OPTIONS),
        Form("window(left=l, right=r)", "i-l <= j <= i+r", ("left", "right"), _OPTIONS),
        Form("window(last=k)", "0 <= i-j < k: the last k keys, self included", ("last",), _OPTIONS),
        Form("window(width=w)", "w odd: abs(i-j) <= (w-1)//2", ("width",), _OPTIONS),
    )

    each_side: int | None = number(least=0, default=None)
    left: int | None = number(least=0, default=None)
    right: int | None = number(least=0, default=None)
    last: int | None = number(least=0, default=None)
    width: int | None = number(least=1, default=None)
    dilation: int = number(least=1, default=1)
    wrap: bool = flag(default=False)

    def check(self) -> None:
        if self.width is not None and self.width % 2 == 0:
            raise BadArgument(
                "width",
                f"`width` must be odd, to be centred on the query, got {self.width}",
                f"`window(width={self.width + 1})`",
                f"`window(left={self.width // 2}, right={self.width // 2 - 1})`",
                expected="an odd number",
            )

    @property
    def steps(self) -> tuple[int, int]:
        """How many steps of `dilation` it reaches back, and how many ahead; -1 is nothing."""
        if self.each_side is not None:
            return self.each_side, self.each_side
        if self.last is not None:
            return self.last - 1, 0
        if self.width is not None:
            return self.width // 2, self.width // 2
        assert self.left is not None
        assert self.right is not None
        return self.left, self.right

    def allows(self, i: Ints, j: Ints, length: int) -> Bools:
        left, right = self.steps
        if not self.wrap:
            distance = i - j
            step = distance // self.dilation
            return np.asarray((distance % self.dilation == 0) & (-right <= step) & (step <= left))
        # On a ring of n tokens, no more than n steps lead to different ones.
        steps = np.arange(-min(right, length), min(left, length) + 1, dtype=np.int64)
        reached = np.zeros(length, dtype=np.bool_)
        reached[steps * (self.dilation % length) % length] = True
        return np.asarray(reached[(i - j) % length])

    def region(self, length: int) -> Region:
        left, right = self.steps
        step = self.dilation
        if not self.wrap:
            return Bands.of(Band(d1=-right * step, d2=left * step, step=step))
        common = math.gcd(step, length)
        if left + right + 1 >= length // common:
            return Bands.of(Band(step=common))
        turns = range(-(left * step // length) - 1, right * step // length + 2)
        if len(turns) > MAX_PIECES:
            raise TooLarge(f"the window goes round the ring more than {MAX_PIECES:,} times")
        return Bands.of(
            *(
                Band(
                    d1=turn * length - right * step, d2=turn * length + left * step,
                    step=step, phase=turn * length % step,
                )
                for turn in turns
            )
        )  # fmt: skip

    def describe(self, length: int) -> str:
        left, right = self.steps
        keys = left + right + 1
        unit = f"{self.dilation}*" if self.dilation > 1 else ""
        start = "i" if left <= 0 else f"i-{left * self.dilation}"
        stop = "i" if right <= 0 else f"i+{right * self.dilation}"
        if keys <= 0:
            return "no key"
        steps = f" in steps of {self.dilation}" if unit else ""
        ring = f" on a ring of {length}" if self.wrap else ""
        return f"[{start}, {stop}]{steps}{ring} ({keys} key{'s' * (keys != 1)})"
