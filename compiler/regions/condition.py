"""Conditions that have no closed form: exact, and asked tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from attnloom.compiler.expressions import Expression
from attnloom.compiler.likeness import Local, likeness, quotient
from attnloom.compiler.limits import MAX_DENSE, TooLarge
from attnloom.compiler.regions.base import EMPTY, FULL, MIXED, Bools, Kinds, Region, Tiles
from attnloom.compiler.runs import Ints, Runs
from attnloom.compiler.zones import TooComplex, Zones

_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Condition(Region):
    """The pairs of tokens, or of blocks of tokens, for which a condition on `i` and `j` holds.

    The condition is checked to be defined, and within 62 bits, for all positions `0..count`.
    """

    expression: Expression
    count: int
    block: int
    length: int

    @classmethod
    def of(cls, expression: Expression, count: int) -> Condition:
        return cls(expression, count, 1, count)

    def _clipped(self, positions: Ints) -> Ints:
        return np.clip(positions, 0, self.length - 1) // self.block

    @cached_property
    def _integers(self) -> type[np.integer[Any]]:
        """The smallest, and so the fastest, integers in which the condition can be worked out."""
        return np.int32 if self.expression.largest(self.count) < 1 << 31 else np.int64

    def contains(self, i: Ints, j: Ints) -> Bools:
        queries, keys = (self._clipped(x).astype(self._integers) for x in (i, j))
        found = np.asarray(self.expression.evaluate(queries, keys)) != 0
        found = found & ((i >= 0) & (i < self.length))
        return np.asarray(found & ((j >= 0) & (j < self.length)))

    def classify(self, tiles: Tiles) -> Kinds:
        last_row, last_key = tiles.rows + tiles.height - 1, tiles.columns + tiles.width - 1
        low, high = self.expression.bounds(
            (self._clipped(tiles.rows), self._clipped(last_row)),
            (self._clipped(tiles.columns), self._clipped(last_key)),
        )
        low, high = (np.broadcast_to(end, len(tiles)) for end in (low, high))
        beyond = (tiles.rows < 0) | (tiles.columns < 0)
        beyond |= (last_row >= self.length) | (last_key >= self.length)
        outside = (last_row < 0) | (last_key < 0)
        outside |= (tiles.rows >= self.length) | (tiles.columns >= self.length)
        kinds = np.where(low != 0, np.where(beyond, MIXED, FULL), MIXED)
        return np.where((high == 0) | outside, EMPTY, kinds).astype(np.uint8)

    def signature(self, tiles: Tiles) -> Ints:
        kinds = self.classify(tiles)
        mixed = tiles.select(kinds == MIXED)
        ends, numbers = [], []
        for first, size in ((mixed.rows, tiles.height), (mixed.columns, tiles.width)):
            low, high = (np.clip(x, 0, self.length - 1) for x in (first, first + size - 1))
            ends.append(quotient(Local(low, high, first), self.block))
            # What lies before the first position and beyond the last.
            numbers += [np.clip(-first, 0, size), np.clip(self.length - first, 0, size)]
        numbers += likeness(self.expression, *ends)
        found = np.repeat(kinds.astype(np.int64)[:, None], len(numbers), axis=1)
        found[kinds == MIXED] = np.stack([np.broadcast_to(x, len(mixed)) for x in numbers], axis=1)
        return found

    def runs(self, rows: Ints) -> Runs:
        if len(rows) * self.length > MAX_DENSE:
            raise TooLarge(f"the condition would be asked for more than {MAX_DENSE:,} pairs")
        keys = np.arange(self.length, dtype=np.int64)
        step = max(1, _AT_ONCE // max(1, self.length))
        found = []
        for first in range(0, len(rows), step):
            reads = self.contains(rows[first : first + step, None], keys)
            edges = np.diff(np.pad(reads.astype(np.int8), ((0, 0), (1, 1))), axis=1)
            row, start = np.nonzero(edges == 1)
            found.append((row + first, start, np.nonzero(edges == -1)[1]))
        if not found:
            return Runs.empty(len(rows))
        row, start, stop = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Runs.of_ranges(len(rows), row, start, stop)

    def transposed(self) -> Condition:
        swapped = _swapped(self.expression)
        return Condition(swapped, self.count, self.block, self.length)

    def in_blocks(self, size: int, length: int) -> Condition:
        return Condition(self.expression, self.count, self.block * size, length)

    def zones(self, start: int, stop: int) -> Zones:
        raise TooComplex(f"no closed form is known for `{self.expression}`")


def _swapped(expression: Expression) -> Expression:
    names = {"i": "j", "j": "i"}
    operands = tuple(_swapped(operand) for operand in expression.operands)
    return Expression(names.get(expression.name, expression.name), operands, expression.value)
