"""The window of one axis: which of its positions read which, and the same as boxes.

The rules are those of NATTEN (Hassani et al. 2022, arXiv:2204.07143; dilation: Hassani & Shi 2022,
arXiv:2209.15001; strides: Hassani et al. 2025, arXiv:2504.16922). The residue class `i % dilation`
is a sequence of its own. In it `stride` members in a row are a group, and share the window around
their leader: the middle one, or the later one of two. An even number of keys has one more before
the leader than behind it. At the ends the window is shifted inwards. A causal window is led by the
last member of a group and ends there, is cut at the start, and nobody reads ahead in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.limits import MAX_PIECES, TooLarge
from attnloom.compiler.primitives.base import Bools
from attnloom.compiler.primitives.cells import AxisBox
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import Bounds

_FEW_GROUPS = 32
_MOST_CELLS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class AxisWindow:
    """What the positions of an axis read: `keys` of them, the same ones for `stride` in a row.

    >>> window = AxisWindow(extent=6, keys=3, stride=2)  # the leaders are 1, 3 and 5
    >>> for i in range(6):
    ...     print(np.flatnonzero(window.allows(np.array(i), np.arange(6))))
    [0 1 2]
    [0 1 2]
    [2 3 4]
    [2 3 4]
    [3 4 5]
    [3 4 5]
    """

    extent: int
    keys: int
    dilation: int = 1
    stride: int = 1
    causal: bool = False

    def allows(self, i: Ints, j: Ints) -> Bools:
        residue = i % self.dilation
        query, key = i // self.dilation, j // self.dilation
        last = (self.extent - 1 - residue) // self.dilation
        leader = np.minimum(query - query % self.stride + self._lead, last)
        if self.causal:
            inside = (key <= query) & (leader - key < self.keys)
        else:
            before, after = self.keys // 2, (self.keys - 1) // 2
            centre = np.maximum(np.minimum(leader, last - after), before)
            inside = (centre - key <= before) & (key - centre <= after)
        return np.asarray((j % self.dilation == residue) & inside)

    @property
    def _lead(self) -> int:
        """How far the leader of a group is from its first member."""
        return self.stride - 1 if self.causal else self.stride // 2

    def boxes(self, *, is_outermost: bool) -> list[AxisBox]:
        """The same as boxes; where other axes lie outside, digits must fill the extent.

        Raises:
            TooLarge: they are too many.
        """
        dilation = min(self.dilation, self.extent)
        if self.extent % dilation and not is_outermost:
            return self._diagonals()
        if dilation == 1:
            return list(self._of_class(self.extent, is_outermost))
        found: list[AxisBox] = []
        count, longer = divmod(self.extent, dilation)
        # The first residue classes have one member more than the others.
        for members, low, high in ((count + 1, 0, longer - 1), (count, longer, dilation - 1)):
            if low > high or not members:
                continue
            residue = Bounds(i=(low, high), j=(low, high), d=(0, 0))
            for places, zones in self._of_class(members, is_outermost):
                found.append(((1, *(dilation * place for place in places)), [residue, *zones]))
        return found

    def _of_class(self, members: int, is_outermost: bool) -> Iterator[AxisBox]:
        """The boxes of a residue class: those of its two ends, and those between."""
        keys, stride, last = self.keys, self.stride, members - 1
        if keys >= members:
            yield self._box(0, last, 0, last)
            return
        if self.causal and stride == 1:
            yield (1,), [Bounds((0, last), (0, last), (0, keys - 1))]
            return
        # The window of group g begins at `g * stride + shift`, where no end is near.
        shift = self._lead - (keys - 1 if self.causal else keys // 2)
        first = -(shift // stride)
        stop = members // stride if self.causal else (last - keys + 1 - shift) // stride + 1
        if first > 0:
            members_before = min(first, stop) * stride
            yield self._box(0, members_before - 1, 0, last if self.causal else keys - 1)
        if stop * stride < members:
            yield self._box(stop * stride, last, members - keys, last)
        if first < stop and stride == 1:
            yield (1,), [Bounds((first, stop - 1), (0, last), (1 - keys - shift, -shift))]
        elif stop - first > _FEW_GROUPS and (is_outermost or members % stride == 0):
            for within, gap in self._digits(shift):
                yield (1, stride), [within, Bounds(i=(first, stop - 1), d=gap)]
        elif stop - first > MAX_PIECES:
            raise TooLarge(f"the neighbourhoods fall into more than {MAX_PIECES:,} pieces")
        else:
            for start in range(first * stride, stop * stride, stride):
                yield self._box(start, start + stride - 1, start + shift, start + shift + keys - 1)

    def _box(self, i1: int, i2: int, j1: int, j2: int) -> AxisBox:
        """Some members read some others, a causal window only those before."""
        return (1,), [Bounds((i1, i2), (j1, j2), (0, i2) if self.causal else None)]

    def _digits(self, shift: int) -> Iterator[tuple[Bounds, tuple[int, int]]]:
        """The window of any group: places within two groups, and how many groups are between."""
        top = self.stride - 1
        back, start = divmod(shift, self.stride)
        end, rest = divmod(shift + self.keys - 1, self.stride)
        if self.causal:
            yield Bounds(d=(0, top)), (0, 0)
            end, rest = -1, top  # the groups before
        if start > 0:
            yield Bounds(j=(start, top)), (-back, -back)
            back += 1
        if rest < top:
            yield Bounds(j=(0, rest)), (-end, -end)
            end -= 1
        if back <= end:
            yield Bounds(), (-end, -back)

    def _diagonals(self) -> list[AxisBox]:
        """As pieces of diagonals, for an axis that has no digit for residues."""
        if self.extent**2 > _MOST_CELLS:
            raise TooLarge(f"a dilation of {self.dilation} on an axis of {self.extent} cells")
        axis = np.arange(self.extent)
        allowed = self.allows(axis[:, None], axis)
        found: list[AxisBox] = []
        for gap in range(1 - self.extent, self.extent):
            rows = np.flatnonzero(np.diagonal(allowed, -gap)) + max(0, gap)
            runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
            found += [
                ((1,), [Bounds(i=(int(run[0]), int(run[-1])), d=(gap, gap))])
                for run in runs
                if len(run)
            ]
        return found
