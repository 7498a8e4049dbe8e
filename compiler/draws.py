"""Random links: pure functions of seed, layer, head and query, the same everywhere and for ever.

The generator is Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC 2011), which turns a counter of four 32-bit words, under a key of two, into four random
words. The key is the seed, low word first. The counter is `(block, query, head, layer)`.

**Links.** Query `q` has the candidates `c_0 < c_1 < ... < c_(m-1)`. The words of the counters with
`block = 0, 1, 2, ...`, taken in twos with the high word first, are 64-bit numbers `u_0, u_1, ...`;
the `t`-th is the place `u_t * m // 2**64`. Places that have come before are passed over: what is
left is a random permutation of the places, of which the first `k` are taken. Nothing but the
candidates of this very row enters, so with candidates `<= q` a row never changes when the sequence
grows.

**Cycles.** Cycle `t` visits the tokens in ascending order of the first 64-bit number of the counter
`(2**31 + t, token, head, layer)`, equal ones in the order of the tokens, and closes to a ring.
"""

from __future__ import annotations

import numpy as np

from attnloom.compiler.limits import MAX_LINKS, TooLarge
from attnloom.compiler.runs import Ints, Runs

MAX_SEED = 1 << 64
MAX_POSITIONS = 1 << 31
"""Positions and candidates count in 31 bits, so that all products fit in 64."""

_MULTIPLY = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_ROUNDS = 10
_CYCLES = 1 << 31
_FEW = 16
_AT_ONCE = 1 << 25


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """Philox4x32-10 of counters whose words are arrays that broadcast.

    >>> [hex(int(word)) for word in philox((0, 0, 0, 0), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        first, second = _MULTIPLY[0] * c0, _MULTIPLY[1] * c2
        c0, c1, c2, c3 = (
            (second >> _WORD) ^ c1 ^ np.uint64(k0),
            second & _LOW,
            (first >> _WORD) ^ c3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


Words = np.ndarray | int


def _key(seed: int) -> tuple[int, int]:
    return seed & 0xFFFFFFFF, seed >> 32


def places(seed: int, layer: int, head: int, queries: Ints, count: int, candidates: Ints) -> Ints:
    """The first `count` places of each query's permutation, in the order in which they come.

    A query with `candidates[r] <= count` takes them all: places `0..candidates[r]`, ascending, and
    -1 in what is left of its row.

    Shapes:
        queries, candidates: `(num_rows,)`; the result: `(num_rows, count)`
    """
    found = np.full((len(queries), count), -1, dtype=np.int64)
    small = candidates <= count
    every = np.arange(count)
    found[small] = np.where(every < candidates[small, None], every, -1)
    rows = np.flatnonzero(~small)
    # Whether a place has come before is looked up in a bitmap where many are drawn.
    widest = int(candidates[rows].max(initial=1))
    step = len(rows) if count <= _FEW else max(1, _AT_ONCE // widest)
    for first in range(0, len(rows), max(1, step)):
        own = rows[first : first + step]
        found[own] = _drawn(seed, layer, head, queries[own], count, candidates[own])
    return found


def _drawn(seed: int, layer: int, head: int, queries: Ints, count: int, candidates: Ints) -> Ints:
    found = np.full((len(queries), count), -1, dtype=np.int64)
    taken = np.zeros(len(queries), dtype=np.int64)
    came = None
    if count > _FEW:
        came = np.zeros((len(queries), int(candidates.max(initial=1))), dtype=np.bool_)
    left = np.arange(len(queries)) if count else np.zeros(0, dtype=np.int64)
    block = 0
    while len(left):
        words = philox((block, queries[left], head, layer), _key(seed))
        for high, low in (words[:2], words[2:]):
            place = _scaled(high, low, candidates[left])
            if came is None:
                fresh = (found[left] != place[:, None]).all(1)
            else:
                fresh = ~came[left, place]
                came[left, place] = True
            fresh &= taken[left] < count
            own = left[fresh]
            found[own, taken[own]] = place[fresh]
            taken[own] += 1
        left = left[taken[left] < count]
        block += 1
    return found


def _scaled(high: Words, low: Words, size: Ints) -> Ints:
    """`(high * 2**32 + low) * size // 2**64`, exactly, for sizes below 2**31."""
    wide = np.asarray(size, dtype=np.uint64)
    return ((high * wide + (low * wide >> _WORD)) >> _WORD).astype(np.int64)


def links(
    seed: int, layer: int, head: int, count: int, length: int, candidates: Runs | None
) -> tuple[Ints, Ints]:
    """Random links of the queries `0..length`: offsets and the keys of each, ascending.

    Args:
        seed: below `2**64`.
        layer: which layer, 0 where layers share the draw.
        head: which head, 0 where heads share it.
        count: links of each query.
        length: how many queries and keys there are.
        candidates: which keys each query may draw; all if `None`.
    """
    if length >= MAX_POSITIONS:
        raise TooLarge(f"random links need fewer than {MAX_POSITIONS:,} positions, got {length:,}")
    if length * min(count, length) > MAX_LINKS:
        raise TooLarge(f"{count:,} links for each of {length:,} queries are over {MAX_LINKS:,}")
    queries = np.arange(length, dtype=np.int64)
    sizes = np.full(length, length) if candidates is None else candidates.lengths()
    count = min(count, int(sizes.max(initial=0)))
    found = places(seed, layer, head, queries, count, sizes)
    some = found >= 0
    keys = found
    if candidates is not None and len(candidates.starts):
        keys = candidates.pick(np.maximum(found, 0))
    rows = np.repeat(queries, count).reshape(length, count)[some]
    order = np.argsort(rows * length + keys[some], kind="stable")
    offsets = np.concatenate([[0], np.cumsum(some.sum(1))]).astype(np.int64)
    return offsets, keys[some][order]


def cycle(seed: int, layer: int, head: int, number: int, length: int) -> Ints:
    """The token after each token on a random ring through all of them, `(length,)`."""
    if length >= MAX_POSITIONS:
        raise TooLarge(f"random rings need fewer than {MAX_POSITIONS:,} positions, got {length:,}")
    if length > MAX_LINKS:
        raise TooLarge(f"a ring of {length:,} tokens is over {MAX_LINKS:,} links")
    tokens = np.arange(length, dtype=np.int64)
    high, low, *_ = philox((_CYCLES + number, tokens, head, layer), _key(seed))
    order = np.argsort(high << _WORD | low, kind="stable")
    following = np.empty(length, dtype=np.int64)
    following[order] = np.roll(order, -1)
    return following
