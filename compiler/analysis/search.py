"""Searching from many positions at once, for patterns without a closed form.

For one kind of layer the positions searched from are *readers*: whom have they learnt of after so
many layers? For a stack, in which the order counts, they are *sources*: who has learnt of them?
Searching from all positions is exact. From a sample it has an interval; see `sampling`.

Where a pattern is made of whole blocks of tokens, blocks are searched in place of tokens: the
tokens of two blocks are as far apart as the blocks are, and two tokens of one block as far as it
takes to come back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnloom.compiler.analysis.figures import Note, Pair
from attnloom.compiler.analysis.grain import Grain
from attnloom.compiler.analysis.table import Table, Words
from attnloom.compiler.regions import Region, both
from attnloom.compiler.runs import Ints

_CACHE = 1 << 20
"""Words that a search holds at once, where it may choose."""

_DEEP_WORK = 300_000_000
"""Ranges looked at, level by level, beyond which single walks are quicker than a wide search."""

_FEW_LEVELS = 64

_LANES = np.uint64(0x0101010101010101)
_LANE_ROWS = 255


class TooDeep(Exception):
    """There are so many hops that a search from many positions at once does not pay."""


@dataclass(frozen=True, eq=False)
class Space:
    """What is searched: the grains of each kind of layer, all over the same positions.

    `intended` says which pairs of different tokens are meant to meet, over the positions too, and
    `is_masked` that some pairs may be connected that are not intended.
    """

    grains: tuple[Grain, ...]
    intended: Region
    is_masked: bool

    @property
    def start(self) -> int:
        return self.grains[0].start

    @property
    def stop(self) -> int:
        return self.grains[0].stop

    @property
    def length(self) -> int:
        return self.grains[0].length

    @property
    def block(self) -> int:
        return self.grains[0].block

    @property
    def weights(self) -> Ints:
        """How many tokens each position stands for."""
        return self.grains[0].weights

    @cached_property
    def per_reader(self) -> Ints:
        """The intended pairs of a token at each position as the reader."""
        return self._other_tokens(self.intended)

    @cached_property
    def per_source(self) -> Ints:
        """The intended pairs of a token at each position as the source."""
        return self._other_tokens(self.intended.transposed())

    @cached_property
    def num_links(self) -> int:
        """Intended pairs that the layer connects, if there is one kind of layer."""
        (grain,) = self.grains
        if self.is_masked:
            each = self._other_tokens(both(grain.region, self.intended))
        else:
            each = self._other_tokens(grain.region, grain.table)
        return int((each * self.weights).sum())

    def _other_tokens(self, region: Region, table: Table | None = None) -> Ints:
        """How many other tokens a token at each position is paired with."""
        table = table or Table.of(region, self.start, self.stop)
        rows = np.arange(self.start, self.stop, dtype=np.int64)
        return table.row_totals(self.weights) - region.contains(rows, rows)

    def pair(self, reader: int, source: int) -> Pair:
        """Two tokens at two positions, which count from 0."""
        if self.block == 1:
            return Pair(source + self.start, reader + self.start)
        first, second = source * self.block, reader * self.block
        return Pair(first, second + (first == second))


@dataclass(frozen=True, eq=False)
class Found:
    """What a search from some positions has found.

    Shapes:
        seeds: `(num_seeds,)`, counted from 0
        reached: `(num_levels, num_seeds)`: intended tokens connected with one token of the seed
            within 1, 2, ... levels
    """

    seeds: Ints
    reached: Ints
    farthest: Pair | None
    missing: Pair | None


def readers(space: Space, seeds: Ints, note: Note) -> Iterator[Found]:
    """Search backwards from readers, some at a time, over one kind of layer.

    Raises:
        TooDeep: there are very many hops, in a table that is large.
    """
    (grain,) = space.grains
    table = grain.read_by
    most = max(_FEW_LEVELS, _DEEP_WORK // max(1, table.num_ranges))
    for part in _batches(space, seeds, note):
        start = _bits(space.length, part)
        counter = _Counter(space, part, is_reader=True)
        learnt, levels = np.zeros_like(start), [np.zeros(len(part), dtype=np.int64)]
        fresh = learnt
        while True:
            known = learnt | table.gather(learnt | start)
            if (known == learnt).all():
                break
            levels.append(counter(known))
            if (levels[-1] != levels[-2]).any():
                fresh = known & ~learnt
            learnt = known
            if len(levels) > most and space.block == 1:
                raise TooDeep
        while len(levels) > 1 and (levels[-1] == levels[-2]).all():
            levels.pop()  # the last layers connected nothing that is intended
        reached = np.stack(levels[1:] or levels)
        yield Found(part, reached, counter.first(fresh), counter.missing(learnt))


def _batches(space: Space, seeds: Ints, note: Note) -> Iterator[Ints]:
    """The seeds in parts that fill some words each."""
    words = max(1, min(-(-len(seeds) // 64), _CACHE // space.length))
    size = 64 * words
    for first in range(0, len(seeds), size):
        note(f"searching from position {first:,} of {len(seeds):,}")
        yield seeds[first : first + size]


def _bits(length: int, seeds: Ints) -> Words:
    """A bit for each seed, at its position."""
    bit = np.arange(len(seeds))
    found = np.zeros((-(-len(seeds) // 64), length), dtype=np.uint64)
    np.bitwise_or.at(found, (bit // 64, seeds), np.uint64(1) << (bit % 64).astype(np.uint64))
    return found


@dataclass(frozen=True, eq=False)
class _Counter:
    """Counts, for each seed, the tokens at the positions that carry its bit."""

    space: Space
    seeds: Ints
    is_reader: bool

    @cached_property
    def _mask(self) -> Words:
        """For each position, the seeds with which it is meant to meet."""
        positions = np.arange(self.space.start, self.space.stop, dtype=np.int64)[:, None]
        seeds = self.seeds + self.space.start
        ends = (seeds, positions) if self.is_reader else (positions, seeds)
        allowed = self.space.intended.contains(*ends)
        width = -(-len(seeds) // 64) * 64
        padded = np.pad(allowed, ((0, 0), (0, width - len(seeds))))
        rows = np.packbits(padded, axis=1, bitorder="little").view(np.uint64)
        return np.ascontiguousarray(rows.T)

    def _intended(self, words: Words) -> Words:
        return words & self._mask if self.space.is_masked else words

    def __call__(self, words: Words) -> Ints:
        words = self._intended(words)
        counts = num_each(words)[: len(self.seeds)] * self.space.block
        last = self.space.length - 1
        counts -= self._has(words, last) * (self.space.block - int(self.space.weights[last]))
        return counts - self._has(words, self.seeds)

    def _has(self, words: Words, positions: Ints | int) -> Ints:
        """Whether each seed's bit is at its own of some positions, or at the one position."""
        bit = np.arange(len(self.seeds))
        own = words[bit // 64, positions] >> (bit % 64).astype(np.uint64) & np.uint64(1)
        return np.asarray(own, dtype=np.int64)

    def first(self, words: Words) -> Pair | None:
        """A pair of a seed and a position that carries its bit."""
        words = self._intended(words)
        if not self.space.is_masked and self.space.block == 1:
            words = words & ~_bits(self.space.length, self.seeds)
        rows, columns = np.nonzero(words)
        if not len(rows):
            return None
        word = int(words[rows[0], columns[0]])
        bit = (word & -word).bit_length() - 1 + 64 * int(rows[0])
        return self._pair(int(columns[0]), int(self.seeds[bit]))

    def missing(self, words: Words) -> Pair | None:
        """An intended pair of a seed and a position that does not carry its bit."""
        wanted = self.space.per_reader if self.is_reader else self.space.per_source
        lacking = np.flatnonzero(self(words) < wanted[self.seeds])
        if not len(lacking):
            return None
        bit = int(lacking[0])
        seed = int(self.seeds[bit])
        positions = np.arange(self.space.length, dtype=np.int64)
        here, there = seed + self.space.start, positions + self.space.start
        ends = (here, there) if self.is_reader else (there, here)
        allowed = self.space.intended.contains(*np.broadcast_arrays(*ends))
        carried = words[bit // 64] >> np.uint64(bit % 64) & np.uint64(1) == 1
        if self.space.block == 1:
            carried[seed] = True
        return self._pair(int(np.flatnonzero(allowed & ~carried)[0]), seed)

    def _pair(self, position: int, seed: int) -> Pair:
        ends = (seed, position) if self.is_reader else (position, seed)
        return self.space.pair(*ends)


def num_each(words: Words) -> Ints:
    """At how many positions each bit is set, `(64 * num_words,)`.

    Bits are spread over the bytes of a word, so that 255 words can be added at once.

    >>> num_each(np.array([[5, 4]], dtype=np.uint64))[:4].tolist()
    [1, 0, 2, 0]
    """
    width, length = words.shape
    found = np.zeros((width, 8, 8), dtype=np.int64)  # word, byte, bit
    starts = np.arange(0, length, _LANE_ROWS)
    for bit in range(8):
        lanes = words >> np.uint64(bit) & _LANES
        sums = np.add.reduceat(lanes, starts, axis=1).view(np.uint8)
        found[:, :, bit] = sums.reshape(width, len(starts), 8).sum(1, dtype=np.int64)
    return found.reshape(-1)


# --- stacks --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FoundInStack:
    """What a search from some sources through all layers has found: by reads, and by layers."""

    by_hops: Found
    by_layers: Found


def sources(space: Space, order: Sequence[int], seeds: Ints, note: Note) -> Iterator[FoundInStack]:
    """Search forwards from sources through layers of an order of kinds; tokens, not blocks.

    `within[h]` holds who has learnt of each source by at most `h` reads; see `hops_in_stack`.
    """
    assert space.block == 1
    for part in _batches(space, seeds, note):
        counter = _Counter(space, part, is_reader=False)
        within = [_bits(space.length, part)]
        layers: list[Ints] = []
        arrived: Pair | None = None
        for number, kind in enumerate(order):
            note(f"searching layer {number + 1} of {len(order)}")
            known = within[-1]
            gather: Callable[[Words], Words] = space.grains[kind].table.gather
            longer = [
                one | gather(fewer) for one, fewer in zip([*within[1:], known], within, strict=True)
            ]
            within = [within[0], *longer]
            while len(within) > 1 and (within[-1] == within[-2]).all():
                within.pop()
            layers.append(counter(within[-1]))
            arrived = counter.first(within[-1] & ~known) or arrived
        hops = [counter(one) for one in within[1:]] or [np.zeros(len(part), dtype=np.int64)]
        farthest = counter.first(within[-1] & ~within[-2]) if len(within) > 1 else None
        missing = counter.missing(within[-1])
        yield FoundInStack(
            Found(part, np.stack(hops), farthest, missing),
            Found(part, np.stack(layers), arrived, missing),
        )
