"""Token sets at a length: which positions, as ranges or as sorted runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.limits import MAX_RUNS, TooLarge
from attnloom.compiler.runs import Ints

_FEW = 8


@dataclass(frozen=True, slots=True)
class Stretch:
    """The positions `p` of `start..stop` with `(p - start) % step < width`.

    >>> Stretch(2, 12, 4, 2).runs()
    (array([ 2,  6, 10]), array([ 4,  8, 12]))
    """

    start: int
    stop: int
    step: int = 1
    width: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether it is one run."""
        return self.step <= self.width or self.stop - self.start <= self.width

    @property
    def num_runs(self) -> int:
        if self.is_whole:
            return int(self.stop > self.start)
        return -(-(self.stop - self.start) // self.step)

    def runs(self) -> tuple[Ints, Ints]:
        """Starts and stops of its runs."""
        if self.is_whole:
            one = np.arange(self.num_runs, dtype=np.int64)
            return one + self.start, one + self.stop
        starts = np.arange(self.start, self.stop, self.step, dtype=np.int64)
        return starts, np.minimum(starts + self.width, self.stop)

    def contains(self, positions: Ints) -> NDArray[np.bool_]:
        inside = (positions >= self.start) & (positions < self.stop)
        if not self.is_whole:
            inside &= (positions - self.start) % self.step < self.width
        return np.asarray(inside)

    def clipped(self, length: int) -> Stretch:
        """Within `0..length`; only whole stretches may start before 0."""
        assert self.start >= 0 or self.is_whole
        start, stop = max(self.start, 0), min(self.stop, length)
        return Stretch(start, max(start, stop), self.step, self.width)


@dataclass(frozen=True, eq=False)
class TokenSet:
    """Positions of `0..length`: the union of some stretches, which may overlap.

    >>> tokens = TokenSet.of(10, Stretch(0, 2), Stretch(1, 10, 4))
    >>> tokens.runs[0].tolist(), tokens.runs[1].tolist(), len(tokens)
    ([0, 5, 9], [2, 6, 10], 4)
    """

    length: int
    stretches: tuple[Stretch, ...] | None
    """`None` when only the runs are known."""

    @classmethod
    def of(cls, length: int, *stretches: Stretch) -> TokenSet:
        """The union of stretches, clipped to the sequence."""
        clipped = (one.clipped(length) for one in stretches)
        return cls(length, tuple(one for one in clipped if one.start < one.stop))

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> TokenSet:
        """The positions where a mask of the whole sequence is true."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
        return cls.of_runs(len(mask), edges[::2].astype(np.int64), edges[1::2].astype(np.int64))

    @classmethod
    def of_runs(cls, length: int, starts: Ints, stops: Ints) -> TokenSet:
        """From sorted disjoint runs that do not touch."""
        few = None
        if len(starts) <= _FEW:
            few = tuple(map(Stretch, starts.tolist(), stops.tolist()))
        found = cls(length, few)
        found.__dict__["runs"] = (starts, stops)
        return found

    @cached_property
    def runs(self) -> tuple[Ints, Ints]:
        """Starts and stops of the maximal runs, ascending."""
        assert self.stretches is not None
        if sum(one.num_runs for one in self.stretches) > MAX_RUNS:
            raise TooLarge(f"the token set has more than {MAX_RUNS:,} pieces")
        none = np.zeros(0, dtype=np.int64)
        parts = [(none, none), *(one.runs() for one in self.stretches)]
        starts, stops = (np.concatenate(ends) for ends in zip(*parts, strict=True))
        return merged(starts, stops)

    @cached_property
    def _lengths(self) -> Ints:
        """How many positions the runs before each one hold, `(num_runs + 1,)`."""
        starts, stops = self.runs
        return np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._lengths[-1])

    def __bool__(self) -> bool:
        return bool(self.stretches if self.stretches is not None else len(self.runs[0]))

    def contains(self, positions: Ints) -> NDArray[np.bool_]:
        """Whether each position is in the set; any integers, of any shape."""
        if self.stretches is not None and len(self.stretches) <= _FEW:
            found = np.zeros(np.shape(positions), dtype=np.bool_)
            for one in self.stretches:
                found |= one.contains(positions)
            return found
        starts, stops = self.runs
        run = np.searchsorted(starts, positions, side="right") - 1
        return np.asarray((run >= 0) & (positions < np.append(stops, 0)[run]))

    def count_below(self, positions: Ints) -> Ints:
        """How many positions of the set lie below each of some positions."""
        starts, _ = self.runs
        if not len(starts):
            return np.zeros(np.shape(positions), dtype=np.int64)
        run = np.searchsorted(starts, positions, side="right") - 1
        inside = np.minimum(positions - starts[run], self._lengths[run + 1] - self._lengths[run])
        return np.where(run < 0, 0, self._lengths[run] + inside)

    def __or__(self, other: TokenSet) -> TokenSet:
        if self.stretches is not None and other.stretches is not None:
            both = dict.fromkeys((*self.stretches, *other.stretches))
            return TokenSet(self.length, tuple(both))
        starts, stops = (np.concatenate(pair) for pair in zip(self.runs, other.runs, strict=True))
        return TokenSet.of_runs(self.length, *merged(starts, stops))

    def __and__(self, other: TokenSet) -> TokenSet:
        return self - other.complement()

    def __sub__(self, other: TokenSet) -> TokenSet:
        # x - y = ~(~x | y)
        return (self.complement() | other).complement()

    def complement(self) -> TokenSet:
        """The positions of the sequence that are not in the set."""
        starts, stops = self.runs
        gaps = np.concatenate([[0], stops]), np.concatenate([starts, [self.length]])
        some = gaps[0] < gaps[1]
        return TokenSet.of_runs(self.length, gaps[0][some], gaps[1][some])

    def in_blocks(self, size: int, length: int) -> TokenSet:
        """The tokens of blocks, if the positions are block numbers; `length` counts tokens."""
        if self.stretches is not None:
            widened = (
                Stretch(one.start * size, one.stop * size, one.step * size, one.width * size)
                for one in self.stretches
            )
            return TokenSet.of(length, *widened)
        starts, stops = self.runs
        return TokenSet.of_runs(length, starts * size, np.minimum(stops * size, length))

    def __str__(self) -> str:
        if self.stretches is not None and len(self.stretches) == 1:
            (one,) = self.stretches
            if not one.is_whole and one.width == 1:
                return f"every {one.step} from {one.start}"
        starts, stops = self.runs
        shown = [
            str(start) if stop == start + 1 else f"{start}..{stop}"
            for start, stop in zip(starts[:_FEW].tolist(), stops[:_FEW].tolist(), strict=True)
        ]
        if len(starts) > _FEW:
            shown[_FEW - 1 :] = ["...", f"{len(self):,} tokens"]
        return "{" + ", ".join(shown) + "}"


def merged(starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Sorted disjoint runs that do not touch, from runs in any order."""
    if not len(starts):
        return starts, stops
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    fresh = np.concatenate([[True], starts[1:] > reach[:-1]])
    last = np.concatenate([np.flatnonzero(fresh)[1:] - 1, [len(starts) - 1]])
    return starts[fresh], reach[last]
